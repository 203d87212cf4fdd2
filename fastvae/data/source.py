"""Sources: where raw examples come from, by index."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK_ROWS = 8192  # rows that are read together from a whole source: limits temporary memory


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What the random transformations of training examples are drawn from."""

    seed: int
    """The run's seed."""
    visits: Tensor
    """int64 ``[B]``: the epoch in which each example is seen."""


class Source(ABC):
    """Examples that can be read by index: ``source[indices]`` returns the raw examples.

    They are a tensor, ``uint8`` or ``float32``, or any dataclass of tensors that has ``to(device)``, which the data's
    preprocessing understands.
    """

    event_shape: tuple[int, ...]
    """Shape of one example: ``(C, H, W)`` for images."""
    dtype: torch.dtype
    """``torch.uint8`` for discrete pixels, ``torch.float32`` for continuous data."""
    levels: int | None
    """Number of values of a discrete pixel (``0 .. levels - 1``); None for other data."""
    conditions: Tensor | None = None
    """float32 ``[N, C]``, condition of each example, which is passed to the batches."""
    lengths: Tensor | None = None
    """int64 ``[N]`` where examples differ in length: those of like length then share a training batch."""
    ids: NDArray[np.str_] | None = None
    """The user's IDs of the examples ``[N]``, such as those of ``--data.table.id``."""
    notes: tuple[str, ...] = ()
    """Notes on how the examples were read: how many, what was skipped, and why."""
    in_memory: bool = True
    """False if examples are read on demand, so that not all should be read at the start."""
    is_array: bool = False
    """Whether the examples are rows of one array, in memory or on disk: cheap to read, and equal at every reading."""
    is_decoded: bool = False
    """Whether each example is decoded from a file or a member of one, which takes so long that workers should do it."""
    is_random: bool = False
    """Whether training examples are transformed at random, see `drawn`."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, indices: Tensor) -> Any:
        """Raw examples ``[B, *event_shape]`` at int64 ``indices`` ``[B]``; a new tensor (or record) each time."""

    def drawn(self, indices: Tensor, draws: Draws) -> Any:
        """Return raw training examples with their random transformations, if there are any: `is_random`.

        The transformation of an example depends on the seed, its index and the visit only: not on the batch, the
        process or the order of reading.
        """
        return self[indices]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """The raw examples of a batch, one by one: ``torch.utils.data.DataLoader(source, batch_size=...)`` works.

        Raises:
            TypeError: the raw examples are not dense tensors.
        """
        raw = self[torch.tensor(indices, dtype=torch.int64)]
        if not isinstance(raw, Tensor) or raw.layout != torch.strided:
            raise TypeError(
                f"{type(self).__name__}: a DataLoader collates dense tensors, and these examples are not; use"
                " fastvae.data.evaluation_batches or fastvae.data.Loader"
            )
        return list(raw)

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[len(self)]``, or None if the data have no labels."""
        return None

    def to(self, device: torch.device | str) -> Source:
        """Return the same examples stored on ``device``, to be indexed there.

        Raises:
            ValueError: they are not in memory as a whole.
        """
        raise ValueError(
            f"{type(self).__name__} reads its examples on demand and cannot be stored on {device}: "
            "set train.capture to False, or give the data as one array"
        )

    def attribute(self, name: str) -> Tensor | None:
        """Return the attribute of each example with this name, ``[N]``; None if there is none."""
        return self.labels if name == "label" else None


class TensorSource(Source):
    """Examples in memory.

    Args:
        examples: ``[N, ...]``, uint8 (or bool) or floating point, N >= 1 and finite; kept as uint8 or float32.
        labels: int64 ``[N]``, or None.
        levels: values that a uint8 pixel can take; None finds out: 2 where no pixel is above 1 (so 0/1 data are
            binary, whatever their type), else 256.
        name: name in error messages.

    Raises:
        ValueError: no examples, a NaN or infinity (the message has its index), or labels of another length.
        TypeError: a dtype that is neither uint8, bool nor floating point.
    """

    is_array = True

    def __init__(
        self, examples: Tensor, labels: Tensor | None = None, *, levels: int | None = None, name: str = "data"
    ) -> None:
        check_array_shape(examples.shape, name)
        self._examples = as_uint8_or_float32(examples, name).contiguous()
        self._labels = None if labels is None else check_labels(labels, len(examples), name)
        self.event_shape = tuple(examples.shape[1:])
        self.dtype = self._examples.dtype
        self.levels = None
        if self.dtype == torch.uint8:
            highest = int(self._examples.max())
            self.levels = (2 if highest <= 1 else 256) if levels is None else levels
            if levels is None:
                guess = "all are 0 or 1: binary" if self.levels == 2 else "256 grey levels, where 255 is 1.0"
                self.notes = (f"{name}: unsigned 8-bit integers, {guess}",)
            if highest >= self.levels:
                raise ValueError(f"{name}: pixels must be in 0 .. {self.levels - 1}, got {highest}")

    def __len__(self) -> int:
        return self._examples.shape[0]

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._examples.index_select(0, indices)

    def to(self, device: torch.device | str) -> TensorSource:
        moved = copy.copy(self)
        moved._examples = self._examples.to(device)
        moved.conditions = None if self.conditions is None else self.conditions.to(device)
        return moved

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``, or None."""
        return self._labels


class DatasetSource(Source):
    """A user's indexable data set, whose items are ``x`` or ``(x, y, ...)``, read item by item.

    Args:
        dataset: has ``len()`` and ``dataset[i]`` for ``0 <= i < len``.
        name: name in error messages.

    Raises:
        ValueError: no items.
        TypeError: it cannot be indexed, or its items are not numbers.
    """

    def __init__(self, dataset: Any, *, name: str = "data") -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"{name}: a data set must have len() and be indexable, got {type(dataset).__name__}; "
                "an iterable one can be turned into a list first"
            )
        if len(dataset) == 0:
            raise ValueError(f"{name}: the data set is empty; at least one example is needed")
        self._dataset, self._name = dataset, name
        first = self._example(0)
        self.event_shape, self.dtype = tuple(first.shape), first.dtype
        self.levels = 256 if first.dtype == torch.uint8 else None

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if indices.numel() == 0:
            return torch.empty((0, *self.event_shape), dtype=self.dtype)
        return torch.stack([self._checked_example(index) for index in indices.tolist()])

    @cached_property
    def _labels(self) -> Tensor | None:
        for name in ("targets", "labels"):  # torchvision's convention, and the commonest other one
            if (values := getattr(self._dataset, name, None)) is not None:
                return check_labels(torch.as_tensor(values), len(self), self._name)
        if _label_of(self._dataset[0]) is None:
            return None
        values = [_label_of(self._dataset[index]) for index in range(len(self))]
        return check_labels(torch.as_tensor(values), len(self), self._name)

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``: from ``dataset.targets`` or ``.labels``, else from the items, each of which is read once."""
        return self._labels

    def _example(self, index: int) -> Tensor:
        item = self._dataset[index]
        example = item[0] if isinstance(item, (tuple, list)) and len(item) and not is_number(item[0]) else item
        try:
            tensor = torch.as_tensor(example if isinstance(example, Tensor) else np.asarray(example))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{self._name}: item {index} must be an array of numbers or (array, label), "
                f"got {type(example).__name__}: {error}"
            ) from error
        tensor = tensor.unsqueeze(0) if tensor.ndim == 0 else tensor
        return as_uint8_or_float32(tensor.unsqueeze(0), f"{self._name}, item {index}").squeeze(0)

    def _checked_example(self, index: int) -> Tensor:
        example = self._example(index)
        if tuple(example.shape) != self.event_shape or example.dtype != self.dtype:
            raise ValueError(
                f"{self._name}: all items must be alike; item 0 has shape {list(self.event_shape)} and {self.dtype}, "
                f"item {index} {list(example.shape)} and {example.dtype}"
            )
        return example


def check_array_shape(shape: Sequence[int], name: str) -> None:
    """ValueError unless an array of this shape is at least one example of at least one number."""
    if len(shape) < 2 or math.prod(shape) == 0:
        raise ValueError(
            f"{name}: examples must be [N, ...] with N >= 1 and at least one number each, got shape {list(shape)}"
        )


def check_labels(labels: Tensor, num_examples: int, name: str) -> Tensor:
    """``labels`` as int64 ``[num_examples]``; ValueError if they are of another length, negative or not whole."""
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if tuple(labels.shape) != (num_examples,):
        raise ValueError(f"{name}: labels must have shape [{num_examples}], one per example, got {list(labels.shape)}")
    whole = labels.to(torch.int64)
    if labels.is_complex() or not torch.equal(whole.to(labels.dtype), labels) or int(whole.min()) < 0:
        raise ValueError(f"{name}: labels must be whole numbers >= 0, got {labels.dtype} from {labels.min().item()}")
    return whole


def as_uint8_or_float32(examples: Tensor, name: str) -> Tensor:
    """Examples ``[N, ...]`` as uint8 (pixels and truth values) or float32.

    Raises:
        ValueError: a number is NaN or infinite; its example is named.
        TypeError: other integers or complex numbers.
    """
    if examples.dtype in (torch.uint8, torch.bool):
        return examples.to(torch.uint8)
    if not examples.is_floating_point():
        raise TypeError(
            f"{name}: examples must be uint8, bool or floating point, got {examples.dtype}; "
            "convert pixels to uint8 and measurements to float32, such as with array.astype('float32')"
        )
    examples = examples.detach().to(torch.float32)
    for rows in torch.arange(len(examples)).split(CHUNK_ROWS):  # in chunks: isfinite makes temporaries of this size
        check_finite(examples[rows[0] : rows[-1] + 1], name, rows)
    return examples


def check_finite(examples: Tensor, name: str, indices: Tensor) -> None:
    """ValueError if a number of the examples ``[B, ...]`` is NaN or infinite; ``indices`` ``[B]`` name them."""
    finite = torch.isfinite(examples).flatten(1).all(dim=1)
    if not bool(finite.all()):
        index = int(indices[(~finite).nonzero()[0]])
        raise ValueError(
            f"{name}: every number must be finite in float32, got NaN or infinity in example {index}; fill it or"
            " leave the example out (the gaps of a DataFrame are masked)"
        )


def is_number(value: Any) -> bool:
    """Whether a value is a single number, of Python, NumPy or PyTorch."""
    return isinstance(value, (int, float, np.number)) or (isinstance(value, Tensor) and value.ndim == 0)


def _label_of(item: Any) -> Any:
    """The label of an item ``(x, y, ...)``; None where the item is an example alone."""
    if not isinstance(item, (tuple, list)) or len(item) < 2 or is_number(item[0]):
        return None
    return item[1] if is_number(item[1]) else None
