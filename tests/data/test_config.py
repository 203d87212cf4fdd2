"""The configuration of data, and the data that it selects."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae.data import DataConfig, Loader, build_data, resolve
from fastvae.data.pixels.digits import load_digits


def test_every_fifth_of_scikit_learns_digits_is_a_test_example() -> None:
    from sklearn import datasets

    images = datasets.load_digits().images
    train, test = load_digits()
    assert (len(train), len(test)) == (1437, 360)
    assert (train.event_shape, train.levels, train.dtype) == ((1, 8, 8), 17, torch.uint8)
    assert np.array_equal(test[torch.arange(360)][:, 0].numpy(), images[::5])
    assert np.array_equal(train[torch.arange(4)][:, 0].numpy(), images[1:5])
    assert test.labels is not None
    assert np.array_equal(test.labels.numpy(), datasets.load_digits().target[::5])


def test_only_digits_raw_is_not_dequantised() -> None:
    digits, raw = build_data(DataConfig(name="digits")), build_data(DataConfig(name="digits-raw"))
    assert digits.log_jacobian_nats == pytest.approx(64 * math.log(17))
    assert raw.log_jacobian_nats is None
    (micro,) = Loader(digits.train, digits.preprocess, global_batch_size=1437, seed=0).load(0)
    assert 0 < float(micro.batch.x.min()) < float(micro.batch.x.max()) < 1
    (micro,) = Loader(raw.train, raw.preprocess, global_batch_size=1437, seed=0).load(0)
    assert torch.equal(micro.batch.x * 16, (micro.batch.x * 16).round())
    assert (micro.batch.x.min(), micro.batch.x.max()) == (0.0, 1.0)
    assert digits.label_names == tuple("0123456789")


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_digits_can_be_binarised(kind: Any) -> None:
    data = build_data(DataConfig(name="digits", binarize=kind), seed=1)
    (micro,) = Loader(data.train, data.preprocess, global_batch_size=1437, seed=0).load(0)
    assert set(micro.batch.x.unique().tolist()) == {0.0, 1.0}
    grey = build_data(DataConfig(name="digits-raw")).train_mean
    torch.testing.assert_close(micro.batch.x.mean(dim=0), grey, atol=0.06, rtol=0)
    assert data.log_jacobian_nats == 0.0


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_users_arrays_are_read(tmp_path: Path, suffix: str) -> None:
    array = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)
    path = tmp_path / f"mine{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, x=array, y=np.arange(20))
    data = build_data(DataConfig(name="file", path=path, test_every=5, dequantize=True))
    assert (len(data.train), len(data.test), data.event_shape) == (16, 4, (1, 2, 3))
    assert np.array_equal(data.test[torch.arange(4)][:, 0].numpy(), array[::5])
    assert data.log_jacobian_nats == pytest.approx(6 * math.log(256))


def test_a_path_is_a_complete_configuration(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.arange(40.0).reshape(20, 2))
    config = DataConfig(name="mnist", path=tmp_path / "mine.npy")
    assert resolve(config) == resolve(resolve(config)) == replace(config, name="file")
    assert build_data(config).event_shape == (2,)


def test_a_users_test_set_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=np.arange(10.0).reshape(5, 2), x_test=np.ones((1, 2)))
    data = build_data(DataConfig(name="file", path=tmp_path / "mine.npz"))
    assert (len(data.train), len(data.test)) == (5, 1)
    assert data.log_jacobian_nats is None


def test_a_users_images_are_read(tmp_path: Path) -> None:
    for number in range(11):
        Image.fromarray(np.full((3, 3), number * 20, dtype=np.uint8)).save(tmp_path / f"{number:02}.png")
    data = build_data(DataConfig(name="file", path=tmp_path, binarize="dynamic"))
    assert (len(data.train), len(data.test), data.event_shape) == (9, 2, (1, 3, 3))
    assert data.test[torch.tensor([1])].unique().tolist() == [200]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dequantize": True, "binarize": "static"}, "exclude each other"),
        ({"test_every": 1}, "test_every must be at least 2, got 1"),
        ({"max_gib": 0.0}, "max_gib must be a positive number, got 0.0"),
        ({"max_gib": float("nan")}, "max_gib"),
        ({"binarize": "sometimes"}, "binarize must be one of none, static, dynamic, got 'sometimes'"),
    ],
)
def test_invalid_configurations_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig(**arguments)


def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of digits, digits-raw, mnist, .*, file, .*, got 'cifar'"):
        build_data(DataConfig(name="cifar"))


@pytest.mark.parametrize(
    ("name", "words"), [("mine.odd", "must be an .npy"), ("mine.npy", "no such file"), ("", "must be")]
)
def test_invalid_paths_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "mine.odd").write_bytes(b"?")
    with pytest.raises(ValueError, match=words) as caught:
        build_data(DataConfig(name="file", path=tmp_path / name))
    assert str(tmp_path) in str(caught.value)
    assert "a folder of images" in str(caught.value)


def test_one_example_cannot_be_split(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.zeros((1, 2)))
    with pytest.raises(ValueError, match="at least two examples"):
        build_data(DataConfig(name="file", path=tmp_path / "mine.npy"))
