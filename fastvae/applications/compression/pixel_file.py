"""Read the files of pixels that can be compressed and recovered byte for byte: NumPy's .npy, IDX, and 0/1 text."""

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
    """A file split into its own header and its pixels."""

    pixels: Pixels
    """uint8 [N, P]."""
    layout: Layout
    """``bytes``: one byte per pixel; ``text``: one line of digits per example, separated by spaces; ``folder``: one
    image file per example."""
    prefix: bytes
    """The bytes before the pixels; of a folder the names of its images as JSON."""

    def to_bytes(self) -> bytes:
        """The original file, byte for byte."""
        return self.prefix + (_to_text(self.pixels) if self.layout == "text" else self.pixels.tobytes())


def read_pixel_file(path: Path, event_shape: Sequence[int], *, max_bytes: int) -> PixelFile:
    """Read a file of pixels: .npy (uint8 or bool), IDX (unsigned bytes), or text of 0 and 1.

    A gzipped file is unpacked first; decompression then recovers the unpacked file.

    Args:
        path: the file.
        event_shape: the shape of the model's examples; the file's examples may be flat or omit axes of size 1.
        max_bytes: largest allowed size of the unpacked file.

    Raises:
        ValueError: the file has another format, is too large, is truncated, or its examples have another shape.
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
        raise ValueError(f"{path}: the header declares {math.prod(shape)} bytes of pixels, the file has {len(body)}")
    pixels = np.frombuffer(body, dtype=np.uint8).reshape(shape[0], num_pixels)
    return PixelFile(pixels=pixels, layout="bytes", prefix=content[:prefix_bytes])


def _read(path: Path, max_bytes: int) -> bytes:
    """The unpacked content, read in chunks so that a file above the limit is not read completely."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = bytearray()
        try:
            with cast("BinaryIO", gzip.GzipFile(fileobj=file)) if gzipped else file as stream:
                while piece := stream.read(_CHUNK_BYTES):
                    content += piece
                    if len(content) > max_bytes:
                        raise ValueError(f"{path}: is larger than the limit of {max_bytes} bytes; split the file")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: the gzip data are truncated or damaged ({error})") from None
    return bytes(content)


def _npy_header(content: bytes, path: Path) -> tuple[int, tuple[int, ...]]:
    stream = io.BytesIO(content)
    try:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError, SyntaxError, TypeError, EOFError) as error:
        raise ValueError(f"{path}: the .npy header is damaged ({' '.join(str(error).split())[:80]})") from None
    if dtype.str not in ("|u1", "|b1") or fortran_order:
        order = "Fortran" if fortran_order else "C"
        raise ValueError(
            f"{path}: must contain uint8 or bool in C order, got {dtype} in {order} order;"
            " save it with numpy.ascontiguousarray"
        )
    return stream.tell(), shape


def _idx_header(content: bytes, path: Path) -> tuple[int, tuple[int, ...]]:
    num_dims = content[3] if len(content) > 3 else 0
    if not 1 <= num_dims <= 4 or len(content) < 4 + 4 * num_dims:
        raise ValueError(
            f"{path}: an IDX header must contain 1 to 4 dimensions and their sizes, got {content[:20].hex(' ')}"
        )
    return 4 + 4 * num_dims, struct.unpack_from(f">{num_dims}I", content, 4)


def _check_shape(shape: tuple[int, ...], event_shape: Sequence[int], path: Path) -> None:
    def squeezed(sizes: Sequence[int]) -> list[int]:
        return [size for size in sizes if size != 1]

    fits = squeezed(shape[1:]) in (squeezed(event_shape), [math.prod(event_shape)])
    if len(shape) < 2 or shape[0] < 1 or not fits:
        raise ValueError(f"{path}: must contain examples of shape {list(event_shape)}, got an array of {list(shape)}")


def _from_text(content: bytes, num_pixels: int, path: Path) -> Pixels:
    rows = np.frombuffer(content, dtype=np.uint8)
    wrong = (
        f"{path}: must be an .npy file, an IDX file, or text with {num_pixels} digits 0 or 1 per line, separated by one"
        " space; save the examples with numpy.save"
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
