"""A user's own arrays: ``.npy`` and ``.npz`` files, read without unpickling."""

from __future__ import annotations

import ast
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.source import TensorSource

_EXAMPLES = ("x", "X", "data", "images", "examples", "arr_0")
_LABELS = ("y", "Y", "labels", "targets")
_CHUNK_BYTES = 2**20
_MAX_HEADER_BYTES = 10_000
# What zipfile raises on damaged archives: OSError for offsets outside the file, RuntimeError for unsupported features.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError, struct.error)
_DTYPES = ("|b1", "|u1", "|i1", *(f"{order}{kind}{size}" for order in "<>" for kind in "uif" for size in (2, 4, 8)))


def load_arrays(path: Path, *, max_bytes: int) -> tuple[TensorSource, TensorSource | None]:
    """The examples of a ``.npy`` or ``.npz`` file, and the test examples if the file has separate ones.

    A ``.npy`` file is the array of examples. A ``.npz`` file contains it as ``x_train`` (with ``x_test``), or as ``x``,
    ``X``, ``data``, ``images``, ``examples`` or the only array; labels are ``y`` (``y_train``, ``y_test``) or
    ``labels``. Shapes: ``[N, D]``; ``[N, H, W]`` (one channel); ``[N, C, H, W]``; ``[N, H, W, C]`` with C = 1 or 3.
    Values: uint8 and other integers in 0 .. 255 are pixels; bool is binary; floating point is continuous.

    Args:
        path: the file.
        max_bytes: largest allowed size of an array; a header that declares more is refused before reading.

    Raises:
        ValueError: not such a file, pickled objects, too large, truncated, or no array with one of these names.
        OSError: the file cannot be opened.
    """
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            examples = read_array(file, str(path), max_bytes)
        return _source(examples, None, str(path)), None
    file = path.open("rb")
    try:
        with file, zipfile.ZipFile(file) as archive:
            return _load_members(archive, path, max_bytes)
    except ZIP_ERRORS as error:
        raise ValueError(f"{path}: not a readable .npz archive ({error})") from error


def _load_members(archive: zipfile.ZipFile, path: Path, max_bytes: int) -> tuple[TensorSource, TensorSource | None]:
    names = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
    for member in archive.infolist():
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{path}: {member.filename!r} is encrypted or has an unusual compression; use numpy.savez")

    def read(name: str | None) -> NDArray[np.generic] | None:
        if name is None:
            return None
        with archive.open(names[name]) as member:
            return read_array(member, f"{path}, array {name!r}", max_bytes)

    def source(examples: str, labels: str | None) -> TensorSource:
        array = read(examples)
        assert array is not None
        return _source(array, read(labels), f"{path}, array {examples!r}")

    if "x_train" in names:
        test = source("x_test", _first(("y_test",), names)) if "x_test" in names else None
        return source("x_train", _first(("y_train",), names)), test
    examples = _first(_EXAMPLES, names) or (next(iter(names)) if len(names) == 1 else None)
    if examples is None:
        raise ValueError(
            f"{path}: examples must be named x_train (with x_test), {', '.join(_EXAMPLES)}, or be the only array; "
            f"got {', '.join(sorted(names)) or 'no arrays'}"
        )
    return source(examples, _first(_LABELS, names)), None


def _first(wanted: tuple[str, ...], names: dict[str, str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def read_array(file: IO[bytes], name: str, max_bytes: int) -> NDArray[np.generic]:
    """One array in NumPy's format; memory is allocated as data are read, not as the header declares."""
    shape, fortran_order, dtype = read_header(file, name)
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes > max_bytes:
        raise ValueError(
            f"{name}: the header declares {list(shape)} of {dtype}, {num_bytes / 2**30:.2f} GiB; "
            f"more than the limit of {max_bytes / 2**30:.2f} GiB (--data.max-gib)"
        )
    data = bytearray()
    while len(data) < num_bytes:
        piece = file.read(min(_CHUNK_BYTES, num_bytes - len(data)))
        if not piece:
            raise ValueError(f"{name}: truncated: {num_bytes} bytes of numbers expected, {len(data)} found")
        data += piece
    if file.read(1):
        raise ValueError(f"{name}: the file is longer than the {num_bytes} bytes that the header declares")
    array: NDArray[np.generic] = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran_order else "C")
    return array


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Parse the header, a Python dictionary of literals: shape, Fortran order, and dtype.

    NumPy's own reader is not used: it also repairs headers of Python 2 and raises errors of its tokenizer.
    """
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise ValueError(f"{name}: not an array in NumPy's format, which begins with 93 4e 55 4d 50 59 and a version")
    num_bytes = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    text = file.read(min(num_bytes, _MAX_HEADER_BYTES)).decode("latin1")
    try:
        header = ast.literal_eval(text.strip())
        descr, fortran_order, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name}: not an array in NumPy's format: damaged header {text[:80]!r}") from error
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"{name}: sizes must be whole numbers >= 0, the header declares {shape}")
    if "O" in str(descr):
        raise ValueError(
            f"{name}: contains pickled Python objects, which can run code and are not loaded; save numbers"
        )
    if descr not in _DTYPES:
        raise ValueError(f"{name}: must contain bool, integer or floating point numbers, got {descr!r}")
    return shape, bool(fortran_order), np.dtype(descr)


def _source(array: NDArray[np.generic], labels: NDArray[np.generic] | None, name: str) -> TensorSource:
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"{name}: examples must be [N, D], [N, H, W], [N, C, H, W] or [N, H, W, C] and not empty, "
            f"got shape {list(array.shape)}"
        )
    label_tensor = None if labels is None else torch.from_numpy(labels.astype(np.float64))
    return TensorSource(channels_first(to_numbers(array, name)), label_tensor, name=name)


def to_numbers(array: NDArray[np.generic], name: str) -> Tensor:
    """The array as uint8 pixels, bool or float32; ValueError if integers are not in 0 .. 255."""
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ValueError(
                f"{name}: integers are pixels and must be in 0 .. 255, got {low} .. {high}; "
                "save measurements as float32"
            )
        return torch.from_numpy(array.astype(np.uint8))
    if array.dtype.kind == "f":  # includes float16 and the other byte order
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the source names
            return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(array))


def channels_first(examples: Tensor) -> Tensor:
    """``[N, H, W]`` with a channel, ``[N, H, W, C]`` with its channels in front, anything else unchanged."""
    if examples.ndim == 3:
        return examples.unsqueeze(1)
    if examples.ndim == 4 and examples.shape[3] in (1, 3) and examples.shape[1] not in (1, 3):
        return examples.permute(0, 3, 1, 2)
    return examples


def is_sparse_file(path: Path) -> bool:
    """Whether a file was written by ``scipy.sparse.save_npz``; reads the list of its arrays only."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"format.npy", "shape.npy"} <= set(archive.namelist())
    except ZIP_ERRORS:
        return False
