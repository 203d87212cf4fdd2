"""One image file with Pillow: upright, on a background, 8 bits deep, or refused."""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

MAX_PIXELS = 2**24  # 4096 x 4096; far above what a VAE reads, far below what fills a memory

_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
# Pillow knows these names, but they hold no pixels, start another program, or are read on one system only.
_NOT_READ = ("BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "EPS", "PDF", "WMF", "MCIDAS")
_ORIENTATION = 0x0112  # the EXIF tag
_BITS_PER_SAMPLE = 258  # the TIFF tag
_DEEP_RAW_MODE = re.compile(r";(16|32)[A-Z]*[BLNSF]\b|;12\b|SGI16|BC6H")
_START_BYTES = 2**16  # of a file, which hold the depth of JPEG 2000 and AVIF

# What Pillow's decoders raise on damaged files, beside its own UnidentifiedImageError (an OSError).
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, struct.error,
    zlib.error, AttributeError, AssertionError, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of an image before its pixels are decoded."""

    size: tuple[int, int]
    """Width and height, upright."""
    is_grey: bool
    """Whether one channel holds it."""
    is_turned: bool
    """Whether the file says that it lies on its side or is mirrored."""
    is_transparent: bool
    """Whether it may have transparent pixels."""
    is_animated: bool
    """Whether it has more pictures than the first."""


@cache
def image_extensions() -> tuple[str, ...]:
    """The endings of the files that Pillow reads here, in lower case, the usual ones first."""
    Image.init()
    usual = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
    read = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NOT_READ
    }
    return (*usual, *sorted(read - set(usual)))


def read_header(path: Path, file: BytesIO | None = None) -> Header:
    """What the file says of its image.

    Args:
        path: the file, or what it is called where ``file`` is given.
        file: its bytes.

    Raises:
        ValueError: it is damaged, too large or deeper than 8 bits.
    """
    try:
        with _only_bombs_warn(), _opened(path, file) as image:
            size, mode = image.size, image.mode
            if size[0] * size[1] > MAX_PIXELS:
                raise _Refused(f"{size[0]} x {size[1]} pixels are more than the limit of {MAX_PIXELS}; resize it first")
            depth = _depth(image, path, file)
            if mode not in _GREY_MODES + _COLOUR_MODES or depth is not None:
                got = f"{depth} in Pillow's mode {mode!r}" if mode in _COLOUR_MODES else f"Pillow's mode {mode!r}"
                raise _Refused(f"must have 8 bits per channel, got {got}; convert it, or use .npy")
            orientation = _orientation(image)
            lies = orientation >= 5 and image.format != "TIFF"  # a TIFF's size is that of the upright image
            return Header(
                size=size[::-1] if lies else size,
                is_grey=mode in _GREY_MODES,
                is_turned=orientation != 1,
                is_transparent=image.has_transparency_data,
                is_animated=bool(getattr(image, "is_animated", False)) and image.format != "MPO",
            )
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except _DECODER_ERRORS as error:
        raise ValueError(f"{path}: not an image that Pillow reads ({_one_line(error)})") from None


def read_pixels(path: Path, header: Header, *, is_grey: bool, background: str, file: BytesIO | None = None) -> Tensor:
    """The pixels uint8 ``[C, H, W]``, upright, transparent ones on the background; C is 1 for ``is_grey``, else 3.

    Raises:
        ValueError: the file is damaged, or another than its header was read of.
    """
    try:
        with _only_bombs_warn(), _opened(path, file) as image:
            image.load()  # which turns a TIFF
            upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
            if header.is_transparent:
                upright = _composited(upright, background)
            pixels = np.array(upright.convert("L" if is_grey else "RGB"))
    except _DECODER_ERRORS as error:
        raise ValueError(f"{path}: the image is truncated or damaged ({_one_line(error)})") from None
    width, height = header.size
    if pixels.shape[:2] != (height, width):
        raise ValueError(f"{path}: changed while the folder was read")
    return torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1)


def decode_image(data: bytes, name: str, background: str = "white") -> Tensor:
    """One image file's pixels, uint8 ``[C, H, W]``: C is 1 if it is grey, else 3.

    Raises:
        ValueError: it is damaged, too large or not 8 bits deep; the message begins with ``name``.
    """
    header = read_header(Path(name), BytesIO(data))
    return read_pixels(Path(name), header, is_grey=header.is_grey, background=background, file=BytesIO(data))


class _Refused(Exception):
    """A rule that the image breaks."""


def _composited(image: Image.Image, background: str) -> Image.Image:
    rgba = image.convert("RGBA")
    behind = Image.new("RGBA", image.size, ImageColor.getrgb(background)[:3])
    return Image.alpha_composite(behind, rgba).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """1 for an upright image; a PNG says so before its pixels, or is not asked: that would decode it."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _depth(image: Image.Image, path: Path, file: BytesIO | None) -> str | None:
    """More than 8 bits a channel, in words, whatever mode Pillow has for it; None for 8 or fewer."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        deepest = max(bits) if isinstance(bits, tuple) else bits
        return f"{deepest} bits" if deepest > 8 else None
    for codec, _, _, arguments in getattr(image, "tile", ()):  # how the file stores the pixels
        if codec.startswith("ppm") and isinstance(arguments, tuple) and arguments[-1] > 255:
            return f"values up to {arguments[-1]}"
        if _DEEP_RAW_MODE.search(f"{codec} {arguments}"):
            return "more than 8 bits"
    if image.format == "JPEG2000":
        return _jpeg2000_depth(_start(path, file))
    if image.format == "AVIF":
        start = _start(path, file)
        place = start.find(b"av1C")
        is_deep = 0 <= place < len(start) - 6 and start[place + 6] & 0x40
        return "more than 8 bits" if is_deep else None
    return None


def _jpeg2000_depth(start: bytes) -> str | None:
    """Of the first component, which the header of the code stream has at its place 42 (ISO/IEC 15444-1, A.5.1)."""
    place = start.find(b"\xff\x4f\xff\x51")
    if place < 0 or len(start) <= place + 42:
        return None
    bits = (start[place + 42] & 0x7F) + 1
    return f"{bits} bits" if bits > 8 else None


def _start(path: Path, file: BytesIO | None) -> bytes:
    if file is not None:
        return file.getvalue()[:_START_BYTES]
    with path.open("rb") as opened:
        return opened.read(_START_BYTES)


@contextlib.contextmanager
def _opened(path: Path, file: BytesIO | None) -> Iterator[Image.Image]:
    """The image, never from its path: Pillow maps such a TIFF into memory, and then turns it wrongly."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(path.open("rb")) if file is None else file
        yield stack.enter_context(Image.open(source))


@contextlib.contextmanager
def _only_bombs_warn() -> Iterator[None]:
    """Pillow's warning of huge dimensions as an error; those of odd metadata, which nobody reads, not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
