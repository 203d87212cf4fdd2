"""Data from users' objects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from fastvae.data import Data, Loader, Preprocess, Source, as_data, as_source, evaluation_batches

GREY = np.linspace(0, 255, 40 * 6).astype(np.uint8).reshape(40, 1, 2, 3)


def every(source: Source) -> torch.Tensor:
    return source[torch.arange(len(source))]


def test_arrays_are_split_by_index() -> None:
    data = as_data(GREY, test_every=4)
    assert (len(data.train), len(data.test)) == (30, 10)
    assert torch.equal(every(data.test), torch.from_numpy(GREY[::4]))
    assert (data.event_shape, data.event_numel) == ((1, 2, 3), 6)
    assert data.preprocess == Preprocess(levels=256)
    assert data.log_jacobian_nats is None


def test_as_data_returns_data_unchanged() -> None:
    data = as_data(GREY)
    assert as_data(data) is data


@pytest.mark.parametrize(
    ("given", "num_train", "num_test"),
    [
        ((GREY, GREY[:7]), 40, 7),
        ((GREY, np.zeros(40, dtype=np.int64)), 36, 4),
        ((GREY[:, 0, 0], np.zeros((40, 1))), 36, 4),
        (((GREY, np.zeros(40)), (GREY[:7], np.ones(7))), 40, 7),
        ((TensorDataset(torch.zeros(5, 2)), TensorDataset(torch.zeros(3, 2))), 5, 3),
        ((as_source(torch.zeros(5, 2)), torch.zeros(3, 2)), 5, 3),
    ],
)
def test_pairs_are_train_and_test_or_examples_and_labels(given: Any, num_train: int, num_test: int) -> None:
    data = as_data(given)
    assert (len(data.train), len(data.test)) == (num_train, num_test)


def test_dequantised_pixels_have_bits_per_dimension() -> None:
    data = as_data(GREY, dequantize=True)
    assert data.log_jacobian_nats == pytest.approx(6 * math.log(256))
    (micro,) = Loader(data.train, data.preprocess, global_batch_size=36, seed=0).load(0)
    assert not torch.equal(micro.batch.x * 256, (micro.batch.x * 256).floor())
    assert micro.batch.rows is not None
    assert torch.equal((micro.batch.x * 256).floor().to(torch.uint8), data.train[micro.batch.rows])


def test_static_binarisation_depends_on_seed_and_index_only() -> None:
    data, again, other = (as_data(GREY, binarize="static", seed=seed) for seed in (5, 5, 6))
    assert data.preprocess == Preprocess(levels=2)
    assert data.log_jacobian_nats == 0.0
    assert set(every(data.train).unique().tolist()) == {0, 1}
    for part in ("train", "test"):
        assert torch.equal(every(getattr(data, part)), every(getattr(again, part)))
        assert not torch.equal(every(getattr(data, part)), every(getattr(other, part)))
    loader = Loader(data.train, data.preprocess, global_batch_size=36, seed=5)
    for step in (0, 1):  # shuffled, and each example the same in both epochs
        batch = loader.load(step)[0].batch
        assert batch.rows is not None
        assert torch.equal(batch.x, data.train[batch.rows].float())


def test_static_noise_does_not_depend_on_the_number_of_examples() -> None:
    many = np.broadcast_to(np.uint8(128), (9000, 3))
    few = as_data(many[:100], many[:100], binarize="static")
    all_of_them = as_data(many, many, binarize="static")  # more than one chunk
    assert torch.equal(every(few.train), every(all_of_them.train)[:100])
    assert torch.equal(every(few.test), every(all_of_them.test)[:100])
    assert not torch.equal(every(few.train), every(few.test))  # train and test have other noise
    for source in (all_of_them.train, all_of_them.test):
        assert float(every(source).double().mean()) == pytest.approx(128 / 255, abs=0.02)


def test_dynamic_binarisation_is_sampled_each_step_and_fixed_in_evaluation() -> None:
    data = as_data(GREY, binarize="dynamic")
    loader = Loader(data.train, data.preprocess, global_batch_size=36, seed=0)
    by_row = []
    for step in (0, 1):
        batch = loader.load(step)[0].batch
        assert batch.rows is not None
        by_row.append(batch.x[batch.rows.argsort()])
    assert not torch.equal(*by_row)
    for batch_size in (1, 3, 40):
        x = torch.cat(
            [m.batch.x for m in evaluation_batches(data.test, data.preprocess, batch_size=batch_size, seed=0)]
        )
        by_row.append(x)
    assert torch.equal(by_row[-1], by_row[-2])
    assert torch.equal(by_row[-1], by_row[-3])


def test_only_probabilities_can_be_binarised() -> None:
    for kind in ("static", "dynamic"):
        data = as_data(np.full((40, 3), 0.5), binarize=kind)  # type: ignore[arg-type]
        assert data.log_jacobian_nats == 0.0
        assert float(data.train_mean.mean()) == pytest.approx(0.5, abs=0.2)
        with pytest.raises(ValueError, match=r"mine: to binarise, .* got 0 .. 2 in the train part"):
            as_data(np.tile(np.arange(3.0), (40, 1)), binarize=kind, name="mine")  # type: ignore[arg-type]


def test_grey_and_binary_parts_together_are_grey() -> None:
    data = as_data(np.eye(4, dtype=np.uint8), GREY[:4, 0].reshape(4, 6)[:, :4])
    assert data.preprocess.levels == 256


def test_the_mean_of_the_training_set() -> None:
    data = as_data(GREY, GREY[:4])
    torch.testing.assert_close(data.train_mean, torch.from_numpy(GREY.mean(axis=0) / 255).float())


def test_lazy_data_sets_are_accepted() -> None:
    items = [(torch.full((2, 2), index / 40), index % 3) for index in range(40)]
    data = as_data(items, binarize="dynamic")
    assert (len(data.train), len(data.test)) == (36, 4)
    (micro,) = Loader(data.train, data.preprocess, global_batch_size=9, seed=0).load(0)
    assert micro.batch.x.shape == (9, 2, 2)
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [0, 1, 2, 0]


def test_different_train_and_test_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mine: .* the same shape and type, got \[2\].*\[3\]"):
        as_data(torch.zeros(4, 2), torch.zeros(4, 3), name="mine")
    with pytest.raises(ValueError, match="must have the same shape and type"):
        as_data(np.zeros((4, 2)), np.zeros((4, 2), dtype=np.uint8))


def test_label_names_must_be_complete() -> None:
    train, test = (torch.rand(20, 8), torch.arange(20) % 2), (torch.rand(4, 8), torch.tensor([0, 1, 2, 0]))
    assert as_data(train, test, label_names=("a", "b", "c")).label_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="must name every label from 0 to 2, got 2: "):
        as_data(train, test, label_names=("a", "b"))


def test_impossible_transformations_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        as_data(GREY, dequantize=True, binarize="dynamic")
    with pytest.raises(ValueError, match="dequantize requires discrete pixels"):
        as_data(np.zeros((4, 2)), dequantize=True)


def test_data_can_be_constructed_directly() -> None:
    source = as_source(GREY)
    data = Data(name="mine", train=source, test=source, preprocess=Preprocess(levels=256, binarize=True))
    assert data.log_jacobian_nats == 0.0
