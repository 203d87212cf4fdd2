"""Tar shards in WebDataset's format, with random access through an index of byte offsets."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.files.arrays import read_array
from fastvae.data.files.image_files import decode_image, image_extensions
from fastvae.data.files.image_transforms import Transform, Transforms
from fastvae.data.files.index import Shard, Table, load_table
from fastvae.data.files.reading import reading
from fastvae.data.files.shards import ShardedSource
from fastvae.data.source import Draws

_NUMPY = b"\x93NUMPY"
_MEMBERS, _LABELS = "members.i64", "labels.i64"
_BLOCK = 512  # of a tar file
_MAX_LABEL_BYTES = 32


@dataclass(frozen=True)
class _Example:
    """Position of one example in its shard."""

    key: str
    offset: int
    size: int
    label: int | None


class TarShards(ShardedSource[int]):
    """A folder of uncompressed ``.tar`` files of examples, one after the other: ``KEY.npy`` or ``KEY.png`` and so on.

    Members of one key are consecutive; ``KEY.cls``, if it exists, is the label, a whole number; other members are
    skipped. The order is that of the names of the shards and of the members. Nothing is unpacked to disk.

    Args:
        folder: the folder.
        max_bytes: largest allowed size of an example.
        transforms: resizing and random transformations, for images only; None keeps every image as it is.

    Raises:
        ValueError: a shard is compressed, truncated or damaged, contains links or names outside the archive, a key has
            two examples, an example differs from the first in shape or type, or arrays are to be transformed.
    """

    is_decoded = True

    def __init__(self, folder: Path, *, max_bytes: int, transforms: Transforms | None = None) -> None:
        self._max_bytes, self._transforms = max_bytes, transforms
        table, home = load_table(folder, ".tar", lambda names, scratch: _describe(folder, names, scratch, max_bytes))
        super().__init__(folder, table)
        self._members = _mapped(home / _MEMBERS, (len(self), 2))  # [N, 2] offset and size, in bytes
        self._label_file = home / _LABELS if table.has_labels else None
        if transforms is None:
            return
        if self._data(0)[1][:6] == _NUMPY:
            raise ValueError(
                f"{folder}: its examples are arrays, which are not resized or augmented; leave out --data.images.size "
                "and --data.images.augment, or store images"
            )
        self.is_random = transforms.is_random
        if transforms.size is not None:
            self.event_shape = (self.event_shape[0], transforms.size, transforms.size)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if self._transforms is None:
            return super().__getitem__(indices)
        transforms = [self._transforms.plain] * len(indices)
        return self._transformed(indices, transforms, self._transforms.background)

    def drawn(self, indices: Tensor, draws: Draws) -> Tensor:
        if self._transforms is None:
            return self[indices]
        return self._transformed(indices, self._transforms.draw(indices, draws), self._transforms.background)

    def _transformed(self, indices: Tensor, transforms: Sequence[Transform | None], background: str) -> Tensor:
        images = torch.empty((len(indices), *self.event_shape), dtype=torch.uint8)
        for image, index, transform in zip(images, indices.tolist(), transforms, strict=True):
            where, data = self._data(index)
            pixels = decode_image(data, where, background, is_grey=len(image) == 1, transform=transform)
            if pixels.shape != image.shape:
                raise ValueError(
                    f"{where}: all images must have one size; the first has {self.event_shape[2]} x "
                    f"{self.event_shape[1]} pixels, this one {pixels.shape[2]} x {pixels.shape[1]}; --data.images.size "
                    "64 resizes all to 64 x 64"
                )
            image.copy_(pixels)
        return images

    @cached_property
    def _labels(self) -> Tensor | None:
        return None if self._label_file is None else torch.from_numpy(np.array(_mapped(self._label_file, (len(self),))))

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``, read on first use; None unless every example has one."""
        return self._labels

    def _open(self, shard: Shard, path: Path) -> int:
        return os.open(path, os.O_RDONLY)

    def _close(self, opened: int) -> None:
        os.close(opened)

    def __del__(self) -> None:
        for opened in getattr(self, "_open_shards", {}).values():
            os.close(opened)

    def _read(self, number: int, rows: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.generic]:
        return np.stack([self._example(index) for index in indices.tolist()])

    def _data(self, index: int) -> tuple[str, bytes]:
        """Return the name of an example for messages, and its bytes."""
        number = int(np.searchsorted(self._stops, index, side="right")) - 1
        offset, size = (int(value) for value in self._members[index])
        where = f"{self._folder / self._table.shards[number].name}, example {index - int(self._stops[number])}"
        reading(where)
        data = os.pread(self._opened(number), size, offset)
        if len(data) != size:
            raise ValueError(f"{where}: {size} bytes expected, {len(data)} found; the file was cut short")
        return where, data

    def _example(self, index: int) -> NDArray[np.generic]:
        where, data = self._data(index)
        example = _decode(data, where, self._max_bytes)
        if example.shape != self._table.event_shape or example.dtype.str != self._table.dtype:
            raise ValueError(
                f"{where}: all examples must have the same shape and type, {list(self._table.event_shape)} of "
                f"{self._table.dtype} as the "
                f"first; this one is {list(example.shape)} of {example.dtype.str}"
            )
        return example


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.int64]]:
    num_bytes = int(np.prod(shape, dtype=object)) * 8
    if path.stat().st_size != num_bytes:
        raise ValueError(f"{path}: {num_bytes} bytes expected, {path.stat().st_size} found; remove {path.parent}")
    return np.memmap(path, dtype="<i8", mode="r", shape=shape)


def _decode(data: bytes, where: str, max_bytes: int) -> NDArray[np.generic]:
    """One example's numbers, from a ``.npy`` or an image."""
    if data[:6] == _NUMPY:
        return read_array(BytesIO(data), where, max_bytes)
    return decode_image(data, where).numpy()


def _describe(folder: Path, names: list[str], scratch: Path, max_bytes: int) -> Table:
    """Read the headers of every shard once; offsets are written to files as they are read, to limit memory."""
    shards, first, has_labels = [], None, True
    with (scratch / _MEMBERS).open("wb") as members, (scratch / _LABELS).open("wb") as labels:
        for name in names:
            path, num_examples = folder / name, 0
            for example in _examples(path):
                if first is None:
                    first = _first_example(path, example, max_bytes)
                members.write(np.array([example.offset, example.size], dtype="<i8").tobytes())
                labels.write(np.array(-1 if example.label is None else example.label, dtype="<i8").tobytes())
                has_labels = has_labels and example.label is not None
                num_examples += 1
            shards.append(Shard(name=name, num_bytes=path.stat().st_size, num_examples=num_examples))
    if first is None:
        raise ValueError(
            f"{folder}: the shards contain no examples; members are KEY.npy or"
            f" KEY{', KEY'.join(image_extensions()[:10])}"
        )
    return Table(shards=tuple(shards), event_shape=first.shape, dtype=first.dtype.str, has_labels=has_labels)


def _first_example(path: Path, example: _Example, max_bytes: int) -> NDArray[np.generic]:
    with path.open("rb") as file:
        file.seek(example.offset)
        array = _decode(file.read(example.size), f"{path}, member {example.key!r}", max_bytes)
    if array.size == 0 or array.ndim == 0 or (array.dtype.kind in "iu" and array.dtype != np.uint8):
        raise ValueError(
            f"{path}, member {example.key!r}: an example is an array of uint8, bool or floating point numbers, got "
            f"{list(array.shape)} of {array.dtype}"
        )
    return array


def _examples(path: Path) -> Iterator[_Example]:
    """The examples of one shard, in order: members of one key are one example."""
    key, found, label = None, None, None
    for member in _members(path):
        if any(part.startswith(".") and part != "." for part in PurePosixPath(member.name).parts):
            continue  # metadata of other programs, such as ._0001.png
        stem, _, extension = PurePosixPath(member.name).name.partition(".")
        member_key = str(PurePosixPath(member.name).with_name(stem))
        if member_key != key:
            if found is not None:
                yield _Example(str(key), found.offset_data, found.size, label)
            key, found, label = member_key, None, None
        suffix = "." + extension.rpartition(".")[2].lower()
        if suffix == ".cls":
            label = _label(path, member)
        elif suffix in (".npy", *image_extensions()):
            if found is not None:
                raise ValueError(f"{path}: {key!r} has two examples, {found.name!r} and {member.name!r}; keep one")
            found = member
    if found is not None:
        yield _Example(str(key), found.offset_data, found.size, label)


def _label(path: Path, member: tarfile.TarInfo) -> int:
    with path.open("rb") as file:
        file.seek(member.offset_data)
        text = file.read(min(member.size, _MAX_LABEL_BYTES))
    if not text.strip().isdigit() or member.size > _MAX_LABEL_BYTES:
        raise ValueError(f"{path}, member {member.name!r}: a label is a whole number >= 0, got {text!r}")
    return int(text)


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive, after checking each; only headers are read."""
    num_bytes, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep every header
                _check(path, member, num_bytes)
                end = max(end, member.offset_data + -(-member.size // _BLOCK) * _BLOCK)
                if not member.isdir():
                    yield member
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as error:
        raise ValueError(f"{path}: not a tar archive, or damaged ({error}){_hint(path)}") from None
    with path.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise ValueError(f"{path}: truncated or damaged: no end mark after byte {end}; create or copy it again")


def _hint(path: Path) -> str:
    with path.open("rb") as file:
        compressed = file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
    return "; compressed archives cannot be read at random, unpack them first" if compressed else ""


def _check(path: Path, member: tarfile.TarInfo, num_bytes: int) -> None:
    where = f"{path}, member {member.name!r}"
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ValueError(f"{where}: must be a plain file; links, devices and sparse files are not allowed")
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        raise ValueError(f"{where}: its name points outside the archive; create the archive from inside its folder")
    if member.size < 0 or member.offset_data + member.size > num_bytes:
        raise ValueError(f"{where}: declares {member.size} bytes, more than the file of {num_bytes} holds: truncated?")
