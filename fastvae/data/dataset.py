"""The data of a run: training and test examples, and what is done to their pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastvae.data.condition import ConditionField, Conditions, Field, choose_fields, conditioned
from fastvae.data.config import Binarize
from fastvae.data.preprocess import Preprocess, Preprocessor, binarize_pixels, pixel_noise
from fastvae.data.source import Source, TensorSource, as_source
from fastvae.data.views import chunks, looked_at, split_every
from fastvae.ops import noise_key

State = Mapping[str, bytes]  # files, by name, that a run keeps of its data


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test examples, and how a batch is made of them."""

    name: str
    train: Source
    test: Source
    preprocess: Preprocessor
    kind: str = "vector"
    """What an example is, which decides how it is shown: image, vector, text, audio, interactions, table."""
    label_names: tuple[str, ...] | None = None
    """What the labels stand for."""
    fields: tuple[Field, ...] = ()
    """What a condition may say, beside the label."""
    conditions: Conditions | None = None
    """What the batches' condition says; None: nothing."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Facts that a model of these data needs beside the event's shape: fields of `fastvae.models.ModelInputs`."""
    state: State = field(default_factory=dict)
    """Files that are saved with a run and handed back when it is loaded: a tokenizer, scales, titles."""
    notes: tuple[str, ...] = ()
    """Lines that training prints at its start: what was read, what was passed over, what each column was taken for."""

    def __post_init__(self) -> None:
        if self.train.event_shape != self.test.event_shape or self.train.dtype != self.test.dtype:
            raise ValueError(
                f"{self.name}: train and test examples must be alike, got {list(self.train.event_shape)} "
                f"{self.train.dtype} and {list(self.test.event_shape)} {self.test.dtype}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch."""
        return self.train.event_shape

    @property
    def event_numel(self) -> int:
        """Numbers in one example: the dimensions that bits per dimension divide by."""
        return math.prod(self.event_shape)

    @property
    def log_jacobian_nats(self) -> float | None:
        """See ``Preprocess.log_jacobian_nats``; None where bits per dimension do not exist."""
        return self.preprocess.log_jacobian_nats(self.event_numel)

    @property
    def condition_dim(self) -> int:
        """Numbers in an example's condition; 0 for none."""
        return 0 if self.conditions is None else self.conditions.size

    @cached_property
    def train_mean(self) -> Tensor | None:
        """Mean of ``x`` over the training set and the noise, float32 ``[*event_shape]``; reads it all once.

        Where the training set is not in memory, it is the mean of a few thousand examples.

        None where the kind of data has no such mean.
        """
        total = torch.zeros(self.event_shape, dtype=torch.float64)
        for indices in (taken := looked_at(self.train)):
            mean = self.preprocess.mean(self.train[indices])
            if mean is None:
                return None
            total += mean * len(indices)
        return (total / sum(map(len, taken))).to(torch.float32)

    def known_fields(self) -> tuple[Field, ...]:
        """What a condition may say: the label where the examples have one, and what this kind of data adds."""
        labels = self.train.labels
        if labels is None:
            return self.fields
        names = self.label_names or tuple(str(label) for label in range(int(labels.max()) + 1))
        return (ConditionField("label", names), *self.fields)


def condition_on(data: Data, names: Sequence[str]) -> Data:
    """``data`` whose batches carry the condition of these names; as it is where there are none.

    Raises:
        ValueError: the data know no field of such a name.
    """
    if not names:
        return data
    conditions = choose_fields(data.known_fields(), names, data.name)
    train, test = (conditioned(source, conditions) for source in (data.train, data.test))
    return replace(data, train=train, test=test, conditions=conditions)


def as_data(
    train: Any,
    test: Any = None,
    *,
    binarize: Binarize = "none",
    dequantize: bool = False,
    test_every: int = 10,
    seed: int = 0,
    name: str = "data",
    label_names: tuple[str, ...] | None = None,
) -> Data:
    """``Data`` of anything that ``as_source`` takes; a ``Data`` is returned as it is.

    Args:
        train: the training examples: uint8 are pixels (binary ones if none is above 1), floats are continuous. A pair
            ``(train, test)`` of data sets is taken apart; a pair of arrays is that if both hold examples of one shape,
            else it is ``(examples, labels)``.
        test: the test examples; without them every ``test_every``-th example of ``train`` is one.
        binarize, dequantize, seed: what is done to the pixels, see ``DataConfig``; the seed of static binarisation.
        test_every: see ``test``.
        name: how messages call the data.
        label_names: what the labels 0, 1, ... stand for.

    Raises:
        ValueError, TypeError: as ``as_source``; binarisation of data outside [0, 1]; or a label without a name.
    """
    if isinstance(train, Data):
        return train
    if test is None and _is_train_and_test(train):
        train, test = train
    source = as_source(train, name=name)
    notes = source.notes if source is not train else ()
    parts = split_every(source, test_every) if test is None else (source, as_source(test, name=f"{name} (test)"))
    _check_names(label_names, parts, name)
    preprocess = Preprocess(levels=_levels(*parts))
    data = Data(
        name=name,
        train=parts[0],
        test=parts[1],
        preprocess=preprocess,
        kind="image" if is_image(source.event_shape) else "vector",
        label_names=label_names,
        notes=notes,
    )
    return prepare(data, binarize, dequantize, seed)


def _check_names(names: tuple[str, ...] | None, parts: Sequence[Source], name: str) -> None:
    """ValueError unless there is a name for every label of the parts."""
    if names is None:
        return
    labels = [part.labels for part in parts]
    highest = max((int(each.max()) for each in labels if each is not None), default=-1)
    if highest >= len(names):
        raise ValueError(f"{name}: label_names must name every label from 0 to {highest}, got {len(names)}: {names}")


def is_image(event_shape: Sequence[int]) -> bool:
    """Whether examples of this shape can be drawn: [H, W], or [1 or 3, H, W]."""
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[0] in (1, 3))


def prepare(data: Data, binarize: Binarize, dequantize: bool, seed: int) -> Data:
    """``data`` with the transformation of its pixels chosen; static binarisation is carried out here, once.

    Raises:
        ValueError: the transformation does not suit the data.
    """
    pixels = data.preprocess
    if not isinstance(pixels, Preprocess):
        raise ValueError(f"{data.name}: {data.kind} data have no pixels to transform; use binarize=none")
    if binarize == "none":
        return _with(data, replace(pixels, dequantize=dequantize))
    if dequantize:
        raise ValueError(f"{data.name}: dequantize and binarize={binarize!r} exclude each other; choose one")
    if data.train.levels is None:
        _check_probabilities(data)
    if binarize == "dynamic":
        return _with(data, replace(pixels, binarize=True))
    if not data.train.in_memory:
        raise ValueError(
            f"{data.name}: binarize=static draws every example once and keeps it, and these are read as they are "
            "needed; use binarize=dynamic"
        )
    train, test = (
        _binarize_once(source, seed, pixels.levels, evaluation=source is data.test)
        for source in (data.train, data.test)
    )
    return _with(replace(data, train=train, test=test), Preprocess(levels=2))


def _with(data: Data, pixels: Preprocess) -> Data:
    return replace(data, preprocess=pixels, inputs={**data.inputs, "num_levels": pixels.exact_levels})


def _is_train_and_test(data: Any) -> bool:
    if not isinstance(data, tuple) or len(data) != 2:
        return False
    first, second = (part.shape if isinstance(part, (np.ndarray, Tensor)) else None for part in data)
    if first is None or second is None:
        return True  # not two arrays: two data sets, or an array and its labels in a list, which as_source refuses
    return len(second) > 1 and first[1:] == second[1:]


def _levels(train: Source, test: Source) -> int | None:
    """The levels that both parts need: a test set of 0/1 images among grey ones is not binary."""
    return None if train.levels is None or test.levels is None else max(train.levels, test.levels)


def _binarize_once(source: Source, seed: int, levels: int | None, *, evaluation: bool) -> Source:
    """Binary examples, uint8 in memory: each drawn by key ``(seed, 0, index)``, so the order of reading is free."""
    drawn = torch.empty((len(source), *source.event_shape), dtype=torch.uint8)
    for indices in chunks(len(source)):
        raw, first = source[indices], int(indices[0])
        noise = pixel_noise(noise_key(seed, 0, first), raw, indices if evaluation else None)
        drawn[first : first + len(indices)] = binarize_pixels(raw, noise, levels)
    return TensorSource(drawn, source.labels, levels=2)


def _check_probabilities(data: Data) -> None:
    for part, source in (("train", data.train), ("test", data.test)):
        for indices in looked_at(source):
            low, high = source[indices].aminmax()
            if low < 0 or high > 1:
                raise ValueError(
                    f"{data.name}: to binarise, continuous data must be probabilities in [0, 1], "
                    f"got {low.item():g} .. {high.item():g} in the {part} part; scale them, or use binarize=none"
                )
