"""Files of pixels that are compressed, and come back byte for byte: NumPy's .npy, IDX, and 0/1 text."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fastvae.applications.compression.container import Layout
from fastvae.settings import Settings

Pixels = NDArray[np.uint8]

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class PixelFile(Settings):
    """A file taken apart: its own header, and its pixels; ``to_bytes`` is the file again."""

    pixels: Pixels  # [N, P]
    layout: Layout  # "bytes": one byte for each pixel; "text": "0 1 ... 0\n" for each example
    prefix: bytes  # what stands before the pixels

    def to_bytes(self) -> bytes:
        """The file, byte for byte."""
        return self.prefix + (_to_text(self.pixels) if self.layout == "text" else self.pixels.tobytes())


def read_pixel_file(path: Path, event_shape: Sequence[int], *, max_bytes: int) -> PixelFile:
    """A file of examples of ``event_shape``: .npy (uint8 or bool), IDX (unsigned bytes), or text of 0 and 1.

    A gzipped file is unpacked, and it is the unpacked file that comes back.

    Args:
        path: the file.
        event_shape: the shape of the model's examples; the file's may leave axes of one out, or be flat.
        max_bytes: the most bytes that the unpacked file may have.

    Raises:
        ValueError: none of those formats, too large, truncated, or examples of another shape; the file is named.
        OSError: the file cannot be read.
    """
    content = _read(path, max_bytes)
    num_pixels = math.prod(event_shape)
    if content[:6] == b"\x93NUMPY":
        prefix_bytes, shape = _npy_header(content, path)
    elif content[:3] == b"\x00\x00\x08":
        prefix_bytes, shape = _idx_header(content, path)
    else:
        return PixelFile(pixels=_from_text(content, num_pixels, path), layout="text", prefix=b"")
    _check_shape(shape, event_shape, path)
    body = content[prefix_bytes:]
    if len(body) != math.prod(shape):
        raise ValueError(f"{path}: the header declares {math.prod(shape)} bytes of pixels, the file holds {len(body)}")
    pixels = np.frombuffer(body, dtype=np.uint8).reshape(shape[0], num_pixels)
    return PixelFile(pixels=pixels, layout="bytes", prefix=content[:prefix_bytes])


def _read(path: Path, max_bytes: int) -> bytes:
    """The unpacked content; what is allocated follows what was read."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = bytearray()
        try:
            with cast("BinaryIO", gzip.GzipFile(fileobj=file)) if gzipped else file as stream:
                while piece := stream.read(_CHUNK_BYTES):
                    content += piece
                    if len(content) > max_bytes:
                        raise ValueError(f"{path}: holds more than the limit of {max_bytes} bytes; split it")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: the gzip data are truncated or damaged ({error})") from None
    return bytes(content)


def _npy_header(content: bytes, path: Path) -> tuple[int, tuple[int, ...]]:
    stream = io.BytesIO(content)
    try:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError, SyntaxError, TypeError, EOFError) as error:
        raise ValueError(f"{path}: a damaged .npy header ({' '.join(str(error).split())[:80]})") from None
    if dtype.str not in ("|u1", "|b1") or fortran_order:
        order = "columns first" if fortran_order else "rows first"
        raise ValueError(f"{path}: must hold uint8 or bool, rows first, got {dtype} and {order}; save it so")
    return stream.tell(), shape


def _idx_header(content: bytes, path: Path) -> tuple[int, tuple[int, ...]]:
    num_dims = content[3] if len(content) > 3 else 0
    if not 1 <= num_dims <= 4 or len(content) < 4 + 4 * num_dims:
        raise ValueError(f"{path}: an IDX file has 1 to 4 dimensions and their sizes, got {content[:20].hex(' ')}")
    return 4 + 4 * num_dims, struct.unpack_from(f">{num_dims}I", content, 4)


def _check_shape(shape: tuple[int, ...], event_shape: Sequence[int], path: Path) -> None:
    def squeezed(sizes: Sequence[int]) -> list[int]:
        return [size for size in sizes if size != 1]

    fits = squeezed(shape[1:]) in (squeezed(event_shape), [math.prod(event_shape)])
    if len(shape) < 2 or shape[0] < 1 or not fits:
        raise ValueError(f"{path}: must hold examples of shape {list(event_shape)}, got an array of {list(shape)}")


def _from_text(content: bytes, num_pixels: int, path: Path) -> Pixels:
    rows = np.frombuffer(content, dtype=np.uint8)
    wrong = (
        f"{path}: must be an .npy file, an IDX file, or text with {num_pixels} digits 0 or 1 a line, one space apart;"
        " save the examples with numpy.save"
    )
    if len(rows) == 0 or len(rows) % (2 * num_pixels):
        raise ValueError(wrong)
    pixels: Pixels = rows[::2].reshape(-1, num_pixels) - np.uint8(ord("0"))
    if pixels.max() > 1 or _to_text(pixels) != content:
        raise ValueError(wrong)
    return pixels


def _to_text(pixels: Pixels) -> bytes:
    text = np.full((len(pixels), 2 * pixels.shape[1]), ord(" "), dtype=np.uint8)
    text[:, ::2] = pixels + np.uint8(ord("0"))
    text[:, -1] = ord("\n")
    return text.tobytes()
