"""The data of a run: training and test examples, and what is done to their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastvae.data.preprocess import Binarize, Preprocess, binarize_pixels, pixel_noise
from fastvae.data.source import Source, TensorSource, as_source, chunks, split_every
from fastvae.ops import noise_key


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test examples, and how a batch is made of them."""

    name: str
    train: Source
    test: Source
    preprocess: Preprocess
    label_names: tuple[str, ...] | None = None

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

    @cached_property
    def train_mean(self) -> Tensor:
        """Mean of ``x`` over the training set and the noise, float32 ``[*event_shape]``; reads it all once."""
        total = torch.zeros(self.event_shape, dtype=torch.float64)
        for indices in chunks(len(self.train)):
            total += self.preprocess.mean(self.train[indices]) * len(indices)
        return (total / len(self.train)).to(torch.float32)


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
        label_names: what the labels stand for.

    Raises:
        ValueError, TypeError: as ``as_source``; or binarisation of data outside [0, 1].
    """
    if isinstance(train, Data):
        return train
    if test is None and _is_train_and_test(train):
        train, test = train
    source = as_source(train, name=name)
    parts = split_every(source, test_every) if test is None else (source, as_source(test, name=f"{name} (test)"))
    preprocess = Preprocess(levels=_levels(*parts))
    data = Data(name=name, train=parts[0], test=parts[1], preprocess=preprocess, label_names=label_names)
    return prepare(data, binarize, dequantize, seed)


def prepare(data: Data, binarize: Binarize, dequantize: bool, seed: int) -> Data:
    """``data`` with the transformation of its pixels chosen; static binarisation is carried out here, once.

    Raises:
        ValueError: the transformation does not suit the data.
    """
    if binarize == "none":
        return replace(data, preprocess=replace(data.preprocess, dequantize=dequantize))
    if dequantize:
        raise ValueError(f"{data.name}: dequantize and binarize={binarize!r} exclude each other; choose one")
    if data.train.levels is None:
        _check_probabilities(data)
    if binarize == "dynamic":
        return replace(data, preprocess=replace(data.preprocess, binarize=True))
    train, test = (
        _binarize_once(source, seed, data.preprocess.levels, evaluation=source is data.test)
        for source in (data.train, data.test)
    )
    return replace(data, train=train, test=test, preprocess=Preprocess(levels=2))


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
        for indices in chunks(len(source)):
            low, high = source[indices].aminmax()
            if low < 0 or high > 1:
                raise ValueError(
                    f"{data.name}: to binarise, continuous data must be probabilities in [0, 1], "
                    f"got {low.item():g} .. {high.item():g} in the {part} part; scale them, or use binarize=none"
                )
