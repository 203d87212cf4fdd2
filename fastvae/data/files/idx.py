"""The IDX format of MNIST: a big-endian header, then bytes; usually gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

_UBYTE = 0x08  # the only element type that MNIST and its family use
_CHUNK_BYTES = 2**20
DEFAULT_MAX_BYTES = 2**30


def read_idx(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES, crc32: int | None = None) -> Tensor:
    """The uint8 array of an IDX file, plain or gzipped.

    Memory is limited by the size that the header declares, which ``max_bytes`` limits, independently of the contents: a
    truncated file raises before its size is allocated, and a gzip bomb is not read beyond one byte too many.

    Args:
        path: the file.
        max_bytes: largest allowed size of the array.
        crc32: CRC-32 of the whole decompressed file, if the content is a published one.

    Returns:
        uint8 tensor of the shape in the header.

    Raises:
        ValueError: not IDX, not unsigned bytes, too large, truncated, trailing bytes, damaged, or other content.
        OSError: the file cannot be opened or read.
    """
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            with cast("BinaryIO", gzip.GzipFile(fileobj=file)) if gzipped else file as stream:
                return _parse(stream, path, max_bytes, crc32)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: the gzip data are truncated or damaged ({error}); download the file again"
            ) from error


def _parse(stream: BinaryIO, path: Path, max_bytes: int, crc32: int | None) -> Tensor:
    header = _read_exactly(stream, 4, path)
    zeros, element, num_dims = struct.unpack(">HBB", header)
    if zeros != 0 or element != _UBYTE or not 1 <= num_dims <= 4:
        raise ValueError(
            f"{path}: an IDX file of unsigned bytes begins with 00 00 08 and 1 to 4 dimensions, got {header.hex(' ')}"
        )
    sizes = _read_exactly(stream, 4 * num_dims, path)
    shape = struct.unpack(f">{num_dims}I", sizes)
    num_bytes = math.prod(shape)
    if num_bytes > max_bytes:
        raise ValueError(f"{path}: the header declares {list(shape)}, {num_bytes} bytes; the limit is {max_bytes}")
    data = _read_exactly(stream, num_bytes, path)
    if stream.read(1):  # reading past the end also makes gzip verify its checksum
        raise ValueError(
            f"{path}: the file is longer than the {num_bytes} bytes that the header declares ({list(shape)})"
        )
    if crc32 is not None and (found := zlib.crc32(data, zlib.crc32(header + sizes))) != crc32:
        raise ValueError(
            f"{path}: not the published file (CRC-32 {found:08x}, published {crc32:08x}); "
            "remove the file to download it again"
        )
    if num_bytes == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8).view(shape)


def _read_exactly(stream: BinaryIO, num_bytes: int, path: Path) -> bytearray:
    """``num_bytes`` bytes, in pieces: memory is allocated as data are read, not as the header declares."""
    data = bytearray()
    while len(data) < num_bytes:
        piece = stream.read(min(_CHUNK_BYTES, num_bytes - len(data)))
        if not piece:
            raise ValueError(f"{path}: truncated: {num_bytes} bytes expected here, {len(data)} found")
        data += piece
    return data
