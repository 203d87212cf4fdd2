"""CIFAR-10 and Frey faces, from files that the test writes in their published formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae.data import DataConfig, build_data

GENERATOR = np.random.default_rng(0)
EVERY = torch.arange(3)


def write_cifar(folder: Path, count: int = 3) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    written = {}
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = GENERATOR.integers(0, 256, (count, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
        written[name] = records
    return written


def test_the_binary_version_of_cifar10(tmp_path: Path) -> None:
    written = write_cifar(tmp_path / "cifar-10-batches-bin")
    data = build_data(DataConfig(name="cifar10", dir=tmp_path, condition=("label",)))
    assert (len(data.train), len(data.test), data.event_shape) == (15, 3, (3, 32, 32))
    assert data.kind == "pixels"
    assert data.model_inputs.num_levels == 256
    first = written["data_batch_1.bin"][0]
    assert np.array_equal(data.train[EVERY][0].flatten().numpy(), first[1:])  # red, green, blue, each row by row
    assert data.train.labels is not None
    assert data.train.labels[0] == first[0]
    assert data.conditions is not None
    assert data.conditions.vector(label="cat").argmax() == 3


def test_sheets_of_cifar10(tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    for sheet, part in enumerate((images[:10], images[10:])):
        Image.fromarray(part.reshape(10, 1024, 3)).save(tmp_path / f"cifar10_batch_{sheet}.png")
    data = build_data(DataConfig(name="cifar10", dir=tmp_path))
    assert (len(data.train), len(data.test)) == (18, 2)
    assert np.array_equal(data.test[torch.arange(2)].numpy(), images[[0, 10]].transpose(0, 3, 1, 2))
    assert data.train.labels is None


def test_frey_faces(tmp_path: Path) -> None:
    faces = GENERATOR.integers(0, 256, (30, 560), dtype=np.uint8)
    np.save(tmp_path / "freyfaces.npy", faces)
    data = build_data(DataConfig(name="frey-faces", dir=tmp_path, test_every=10))
    assert (len(data.train), len(data.test), data.event_shape) == (27, 3, (1, 28, 20))
    assert np.array_equal(data.test[EVERY].flatten(1).numpy(), faces[::10])


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("cifar10", lambda folder: None, r"data_batch_1.bin or cifar10_batch_0.png is in none of"),
        ("frey-faces", lambda folder: None, "freyfaces.npy is in none of"),
        ("cifar10", lambda folder: (folder / "data_batch_1.bin").write_bytes(b"123"), "records of 3073 bytes, got 3"),
        ("frey-faces", lambda folder: np.save(folder / "freyfaces.npy", np.zeros((3, 5))), r"uint8 \[N, 560\]"),
    ],
)
def test_missing_or_damaged_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: object, words: str
) -> None:
    monkeypatch.setenv("FASTVAE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=words):
        build_data(DataConfig(name=name, dir=tmp_path))


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(ValueError, match=r"test_batch\.bin: missing"):
        build_data(DataConfig(name="cifar10", dir=tmp_path))
