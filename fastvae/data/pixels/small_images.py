"""Published sets of small photographs: CIFAR-10 and Frey faces; found on disk, not downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastvae.data.files.arrays import load_arrays
from fastvae.data.files.places import find_file
from fastvae.data.source import Source, TensorSource
from fastvae.data.views import split_every

CIFAR10_LABELS = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
FREY_SHAPE = (1, 28, 20)
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + 3 * 32 * 32
_SHEETS = "cifar10_batch_0.png"


def load_cifar10(directory: Path | None, *, test_every: int) -> tuple[Source, Source]:
    """CIFAR-10 (Krizhevsky 2009), uint8 ``[N, 3, 32, 32]``: the published binary files with their labels, else sheets.

    The "binary version" is five files of 10 000 records for training and one for the test; a record is a label's byte
    and 3072 bytes of pixels. The Python version is pickled, and not read. A sheet is a PNG with one image per row;
    without labels or a test set of their own, every ``test_every``-th image is a test image.

    Raises:
        ValueError: the files are missing or invalid.
    """
    first = find_file(
        "cifar10",
        ("cifar-10-batches-bin", "cifar10", "cifar10_lossless_4000"),
        ("data_batch_1.bin", _SHEETS),
        directory,
        "take the binary version from www.cs.toronto.edu/~kriz/cifar.html, and set FASTVAE_DATA to the folder above it",
    )
    if first.name == _SHEETS:
        images = torch.cat([_read_sheet(path) for path in sorted(first.parent.glob("cifar10_batch_*.png"))])
        return split_every(TensorSource(images, levels=256, name="cifar10"), test_every)
    train = [_read_records(first.with_name(f"data_batch_{number}.bin")) for number in range(1, 6)]
    test = _read_records(first.with_name("test_batch.bin"))
    parts = (torch.cat([images for images, _ in train]), torch.cat([labels for _, labels in train])), test
    return tuple(TensorSource(*part, levels=256, name="cifar10") for part in parts)  # type: ignore[return-value]


def load_frey_faces(directory: Path | None, *, max_bytes: int, test_every: int) -> tuple[Source, Source]:
    """Frey faces (B. Frey and S. Roweis), uint8 ``[N, 1, 28, 20]``; every ``test_every``-th face is a test example.

    Raises:
        ValueError: the file is missing or invalid.
    """
    path = find_file(
        "frey-faces",
        ("frey_faces", "frey-faces"),
        ("freyfaces.npy",),
        directory,
        "take freyfaces.npy, uint8 [1965, 560], and set FASTVAE_DATA to the folder above frey_faces/",
    )
    source, _ = load_arrays(path, max_bytes=max_bytes)
    if source.dtype != torch.uint8 or np.prod(source.event_shape) != np.prod(FREY_SHAPE):
        raise ValueError(f"{path}: must hold uint8 [N, 560], got {source.dtype} {list(source.event_shape)}")
    images = source[torch.arange(len(source))].view(-1, *FREY_SHAPE)
    return split_every(TensorSource(images, levels=256, name="frey-faces"), test_every)


def _read_records(path: Path) -> tuple[Tensor, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: missing from the files of CIFAR-10's binary version")
    content = path.read_bytes()
    if not content or len(content) % _CIFAR_RECORD:
        raise ValueError(f"{path}: must hold records of {_CIFAR_RECORD} bytes, got {len(content)} bytes")
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, _CIFAR_RECORD)
    labels = records[:, 0].long()
    if int(labels.max()) >= len(CIFAR10_LABELS):
        raise ValueError(f"{path}: labels must be below {len(CIFAR10_LABELS)}, got {int(labels.max())}")
    return records[:, 1:].reshape(-1, *_CIFAR_SHAPE), labels


def _read_sheet(path: Path) -> Tensor:
    channels, height, width = _CIFAR_SHAPE
    with Image.open(path) as sheet:
        if sheet.mode != "RGB" or sheet.width != height * width:
            raise ValueError(f"{path}: must be RGB, {height * width} pixels wide, got {sheet.mode} {sheet.size}")
        pixels = torch.from_numpy(np.array(sheet))
    return pixels.view(-1, height, width, channels).permute(0, 3, 1, 2)
