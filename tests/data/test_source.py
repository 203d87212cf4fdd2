"""Sources: users' arrays, tensors and data sets, by index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from fastvae.data import as_source
from fastvae.data.source import TensorSource
from fastvae.data.views import split_every


class Squares(Dataset[Any]):
    """A user's data set: item i is [i, i * i] with label i % 3."""

    def __init__(self, num: int = 10) -> None:
        self.num, self.reads = num, 0

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.tensor([index, index * index], dtype=torch.float64), index % 3


class Items(Dataset[Any]):
    """A data set of these items, which are read one by one."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_arrays_and_tensors_are_read_by_index() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10
    for data in (array, torch.from_numpy(array), array[::1], np.asfortranarray(array)):
        source = as_source(data)
        assert len(source) == 6
        assert source.event_shape == (2, 2)
        assert source.levels == 256
        assert source.labels is None
        raw = source[torch.tensor([5, 0, 5])]
        assert raw.dtype == torch.uint8
        assert torch.equal(raw, torch.from_numpy(array[[5, 0, 5]]))
        assert source[torch.empty(0, dtype=torch.int64)].shape == (0, 2, 2)


def test_a_source_copies_its_array() -> None:
    array = np.ones((3, 2), dtype=np.float32)
    source = as_source(array)
    array[:] = 7
    assert source[torch.tensor([0])].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_float32(dtype: type[np.floating[Any]]) -> None:
    source = as_source(np.full((3, 4), 0.5, dtype=dtype))
    assert source.dtype == torch.float32
    assert source.levels is None
    assert source[torch.tensor([2])].tolist() == [[0.5] * 4]


def test_zeros_and_ones_are_binary() -> None:
    assert as_source(np.eye(4, dtype=bool)).levels == 2
    assert as_source(np.eye(4, dtype=np.uint8)).levels == 2
    assert as_source(2 * np.eye(4, dtype=np.uint8)).levels == 256


def test_labels_come_with_pairs_and_tensor_data_sets() -> None:
    x, y = torch.zeros(4, 2), torch.tensor([3, 1, 0, 2])
    for data in ((x, y), (x.numpy(), y.numpy()), (x, y.double()), TensorDataset(x, y), (x, y[:, None])):
        labels = as_source(data).labels
        assert labels is not None
        assert labels.dtype == torch.int64
        assert torch.equal(labels, y)
    assert as_source(TensorDataset(x, torch.zeros(4, 2))).labels is None  # targets that are not labels


def test_a_data_set_is_read_item_by_item() -> None:
    source = as_source(Squares())
    assert len(source) == 10
    assert source.event_shape == (2,)
    assert source[torch.tensor([3, 1])].tolist() == [[3.0, 9.0], [1.0, 1.0]]
    assert source.dtype == torch.float32
    assert source[torch.empty(0, dtype=torch.int64)].shape == (0, 2)
    labels = source.labels
    assert labels is not None
    assert labels.tolist() == [index % 3 for index in range(10)]


def test_labels_are_read_from_targets_without_reading_items() -> None:
    dataset = Squares()
    dataset.targets = [0] * 10  # type: ignore[attr-defined]
    source = as_source(dataset)
    reads = dataset.reads
    assert source.labels is not None
    assert dataset.reads == reads


def test_lists_of_examples_are_data_sets() -> None:
    assert as_source([np.zeros(3), np.ones(3)])[torch.tensor([1])].tolist() == [[1.0, 1.0, 1.0]]
    assert as_source([[0.0, 1.0], [2.0, 3.0]])[torch.tensor([1])].tolist() == [[2.0, 3.0]]
    assert as_source([0.5, 0.25])[torch.tensor([1])].tolist() == [[0.25]]


def test_as_source_returns_a_source_unchanged() -> None:
    source = as_source(torch.zeros(2, 2))
    assert as_source(source) is source


@pytest.mark.parametrize("lazy", [False, True])
def test_every_nth_example_is_a_test_example(lazy: bool) -> None:
    x = torch.arange(10.0)[:, None]
    data: Any = list(zip(x, range(10), strict=True)) if lazy else (x, torch.arange(10))
    train, test = split_every(as_source(data), 4)
    assert test[torch.arange(3)].flatten().tolist() == [0.0, 4.0, 8.0]
    assert train[torch.arange(7)].flatten().tolist() == [1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 9.0]
    assert test.labels is not None
    assert test.labels.tolist() == [0, 4, 8]
    assert len(train) + len(test) == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_nonfinite_numbers_are_refused(bad: float) -> None:
    array = np.zeros((9000, 3))
    array[8500, 1] = bad
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="NaN or infinity in example 8500"):
        as_source(array)


def test_a_nan_in_a_data_set_is_refused_when_it_is_read() -> None:
    source = as_source(Items([torch.zeros(2), torch.tensor([0.0, float("nan")])]))
    with pytest.raises(ValueError, match=r"item 1.*finite"):
        source[torch.tensor([1])]


def test_items_of_another_shape_are_refused() -> None:
    source = as_source(Items([torch.zeros(2), torch.zeros(3)]))
    with pytest.raises(ValueError, match=r"item 0 has shape \[2\].*item 1 \[3\]"):
        source[torch.tensor([0, 1])]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (np.zeros((0, 3)), ValueError, r"N >= 1.*\[0, 3\]"),
        (np.zeros((3, 0)), ValueError, r"\[3, 0\]"),
        (np.zeros(3), ValueError, r"\[3\]"),
        ([], ValueError, "empty"),
        (np.zeros((3, 2), dtype=np.int64), TypeError, "uint8, bool or floating point, got torch.int64"),
        (np.zeros((3, 2), dtype=complex), TypeError, "complex"),
        (np.array([["a"], ["b"]]), TypeError, "numbers"),
        (np.array([[object()]]), TypeError, "numbers"),
        (iter([1, 2]), TypeError, "indexable"),
        ({"x": np.zeros((3, 2))}, TypeError, "got dict"),
        ([{"x": 1}], TypeError, "item 0 must be an array"),
        (["text"], TypeError, "got texts"),
        (3, TypeError, "got int"),
        ((np.zeros((3, 2)), np.zeros(2)), ValueError, r"labels must have shape \[3\]"),
        ((np.zeros((3, 2)), np.array([0.5, 1, 2])), ValueError, "whole numbers"),
        ((np.zeros((3, 2)), np.array([-1, 1, 2])), ValueError, "whole numbers >= 0"),
        ((np.zeros((3, 2)), np.array([np.nan, 1, 2])), ValueError, "whole numbers"),
    ],
)
def test_unsuitable_data_are_refused(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_source(data, name="mine")


def test_pixels_above_the_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"digits: pixels must be in 0 .. 16, got 17"):
        TensorSource(torch.tensor([[17]], dtype=torch.uint8), levels=17, name="digits")


@pytest.mark.parametrize(("num", "test_every"), [(1, 2), (5, 1)])
def test_a_split_requires_two_examples(num: int, test_every: int) -> None:
    with pytest.raises(ValueError, match="at least two examples"):
        split_every(as_source(torch.zeros(num, 2)), test_every)
