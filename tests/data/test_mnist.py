"""MNIST and Fashion-MNIST: the folders that are searched, and the content of the files."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastvae.data import DataConfig, Loader, build_data
from fastvae.data.files.download import RemoteFile
from fastvae.data.pixels.mnist import FASHION_MNIST, MNIST, PublishedSet, load_published


def contents(num: int, seed: int) -> tuple[bytes, bytes]:
    """Return image file and label file of ``num`` examples, decompressed."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num * 784,), generator=generator)
    labels = torch.randint(0, 10, (num,), generator=generator)
    return (
        struct.pack(">HBBIII", 0, 8, 3, num, 28, 28) + bytes(pixels.tolist()),
        struct.pack(">HBBI", 0, 8, 1, num) + bytes(labels.tolist()),
    )


TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
FILES = dict(zip((*TRAIN, *TEST), (*contents(6, 1), *contents(3, 2)), strict=True))


def published() -> PublishedSet:
    """A small set of the same layout."""
    files = [
        RemoteFile(
            name=name,
            num_bytes=len(gzip.compress(content, mtime=0)),
            sha256=hashlib.sha256(gzip.compress(content, mtime=0)).hexdigest(),
            crc32=zlib.crc32(content),
            mirrors=("http://127.0.0.1:9",),
        )
        for name, content in FILES.items()
    ]
    return PublishedSet(
        name="small", folders=("small", "Small/raw"), train=(files[0], files[1]), test=(files[2], files[3]),
        num_train=6, num_test=3,
    )  # fmt: skip


def put(folder: Path, *, gzipped: bool = True, changed: dict[str, bytes] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**FILES, **(changed or {})}.items():
        if gzipped:
            (folder / name).write_bytes(gzip.compress(content))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(content)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVAE_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "place", ["given", "given/small", "given/Small/raw", "environment/small", "cache/fastvae/small", "system"]
)
@pytest.mark.parametrize("gzipped", [True, False])
def test_files_are_found_in_the_usual_folders(tmp_path: Path, place: str, gzipped: bool) -> None:
    put(tmp_path / place, gzipped=gzipped)
    small = replace(published(), system_folders=(tmp_path / "system",))
    train, test = load_published(small, tmp_path / "given", download=False)
    assert (len(train), len(test)) == (6, 3)
    assert train.event_shape == (1, 28, 28)
    assert train.levels == 256
    images = FILES["train-images-idx3-ubyte.gz"][16:]
    assert bytes(train[torch.arange(6)].flatten().tolist()) == images
    assert test.labels is not None
    assert bytes(test.labels.tolist()) == FILES["t10k-labels-idx1-ubyte.gz"][8:]


def test_the_given_folder_is_searched_first(tmp_path: Path) -> None:
    put(tmp_path / "given" / "small")
    put(tmp_path / "environment" / "small", changed=dict.fromkeys(FILES, b"damaged"))
    load_published(published(), tmp_path / "given", download=False)
    with pytest.raises(ValueError, match="environment"):
        load_published(published(), download=False)


def test_missing_files_are_named_with_their_checksum_and_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"small: train-images-idx3-ubyte.gz .sha256 [0-9a-f]{64}. is in none of"
    ) as one:
        load_published(published(), tmp_path / "given", download=False)
    assert f"put it into {tmp_path / 'given' / 'small'}" in str(one.value)
    with pytest.raises(ValueError, match=r"could not download train-images-idx3-ubyte.gz") as two:
        load_published(published(), show_progress=False)
    assert f"put it into {tmp_path / 'cache' / 'fastvae' / 'small'}" in str(two.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-images-idx3-ubyte.gz", contents(6, 3)[0], "not the published file"),
        ("train-images-idx3-ubyte.gz", contents(7, 1)[0], "the limit is 4704"),
        ("train-labels-idx1-ubyte.gz", b"\0\0\x08\x01\0\0\0\x06abc", "truncated"),
        ("t10k-labels-idx1-ubyte.gz", b"<html>", "begins with 00 00 08"),
    ],
)
def test_files_with_other_content_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    put(tmp_path / "given", changed={name: content})
    with pytest.raises(ValueError, match=words) as caught:
        load_published(published(), tmp_path / "given", download=False)
    assert name in str(caught.value)


def test_shape_and_labels_are_checked_in_addition_to_the_checksum(tmp_path: Path) -> None:
    images, labels = (
        struct.pack(">HBBII", 0, 8, 2, 6, 784) + bytes(4704),
        struct.pack(">HBBI", 0, 8, 1, 6) + b"\x0b" * 6,
    )
    for name, content, words in (
        ("train-images-idx3-ubyte.gz", images, r"shape must be \[6, 28, 28\], got \[6, 784\]"),
        ("train-labels-idx1-ubyte.gz", labels, "labels must be below 10, got 11"),
    ):
        put(tmp_path / "given", changed={name: content})
        small = published()
        train = [replace(file, crc32=zlib.crc32(content)) if file.name == name else file for file in small.train]
        with pytest.raises(ValueError, match=words):
            load_published(replace(small, train=(train[0], train[1])), tmp_path / "given", download=False)


def test_mnist_and_fashion_mnist_are_distinguished() -> None:
    """Their files have the same names and differ in content only."""
    for files in zip((*MNIST.train, *MNIST.test), (*FASHION_MNIST.train, *FASHION_MNIST.test), strict=True):
        assert len({file.name for file in files}) == 1
        assert len({file.crc32 for file in files}) == len({file.sha256 for file in files}) == 2


REAL = Path(os.environ.get("FASTVAE_DATA", ""))  # before the fixture changes it
needs_mnist = pytest.mark.skipif(
    not (os.environ.get("FASTVAE_DATA") and (REAL / "mnist" / MNIST.train[0].name).is_file()),
    reason="FASTVAE_DATA holds no mnist/train-images-idx3-ubyte.gz",
)


@needs_mnist
def test_the_published_mnist_is_read() -> None:
    for file in (*MNIST.train, *MNIST.test):
        content = (REAL / "mnist" / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.num_bytes, file.sha256)
    data = build_data(DataConfig(name="mnist", dir=REAL, download=False))
    assert (len(data.train), len(data.test), data.event_shape) == (60_000, 10_000, (1, 28, 28))
    assert float(data.train_mean.mean()) == pytest.approx(0.1307, abs=1e-4)  # the published mean of the pixels
    assert data.train.labels is not None
    assert torch.bincount(data.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@needs_mnist
def test_the_published_mnist_is_binarised() -> None:
    dynamic = build_data(DataConfig(name="mnist", dir=REAL, download=False, binarize="dynamic"))
    loader = Loader(dynamic.train, dynamic.preprocess, global_batch_size=1000, seed=0)
    x = loader.load(0)[0].batch.x
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert float(x.mean()) == pytest.approx(0.1307, abs=3e-3)
    static = build_data(DataConfig(name="mnist", dir=REAL, download=False, binarize="static"), seed=3)
    torch.testing.assert_close(static.train_mean, dynamic.train_mean, atol=0.01, rtol=0)
