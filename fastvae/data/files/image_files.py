"""Read an image file with Pillow: upright, on a background, resized, with 8 bits per channel."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from fastvae.data.files.image_depth import depth_of
from fastvae.data.files.image_transforms import Resize, Transform

MAX_PIXELS = 2**24  # 4096 x 4096; far more than a VAE reads, far less than fills memory
MAX_RESIZED_PIXELS = 2**26  # of an image that is resized: more than cameras produce, less than Pillow's limit

_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
# Suffixes of Pillow without pixels, which start another program, or are read on one system only.
_NOT_READ = ("BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "EPS", "PDF", "WMF", "MCIDAS")
_ORIENTATION = 0x0112  # the EXIF tag
_SHALLOWER = "convert it to 8 bits, or give the numbers as a .npy file of float32"

# Exceptions of Pillow's decoders on damaged files, besides UnidentifiedImageError (an OSError).
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, struct.error,
    zlib.error, AttributeError, AssertionError, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Header:
    """Properties of an image that are read before its pixels are decoded."""

    size: tuple[int, int]
    """Width and height, upright."""
    is_grey: bool
    """Whether it has one channel."""
    is_turned: bool
    """Whether its metadata declare it as rotated or mirrored."""
    is_transparent: bool
    """Whether it may have transparent pixels."""
    is_animated: bool
    """Whether it has several frames."""


@cache
def image_extensions() -> tuple[str, ...]:
    """Return the supported suffixes in lower case, the most common ones first."""
    Image.init()
    usual = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
    read = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NOT_READ
    }
    return (*usual, *sorted(read - set(usual)))


def read_header(path: Path, file: BytesIO | None = None, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read the header of an image file.

    Args:
        path: the file, or its name for messages if ``file`` is given.
        file: its bytes.
        max_pixels: largest allowed number of pixels.

    Raises:
        ValueError: it is damaged, too large or deeper than 8 bits.
    """
    try:
        with _only_bombs_warn(), _opened(path, file) as image:
            size, mode = image.size, image.mode
            if size[0] * size[1] > max_pixels:
                raise _Refused(f"{size[0]} x {size[1]} pixels exceed the limit of {max_pixels}; resize it first")
            depth = depth_of(image, path, file)
            if mode not in _GREY_MODES + _COLOUR_MODES or depth is not None:
                got = f"Pillow's mode {mode!r}" if depth is None else f"{depth} (Pillow's mode {mode!r})"
                raise _Refused(f"must have 8 bits per channel, got {got}; {_SHALLOWER}")
            orientation = _orientation(image)
            lies = orientation >= 5 and image.format != "TIFF"  # the size of a TIFF refers to the upright image
            return Header(
                size=size[::-1] if lies else size,
                is_grey=mode in _GREY_MODES,
                is_turned=orientation != 1,
                is_transparent=image.has_transparency_data,
                is_animated=bool(getattr(image, "is_animated", False)) and image.format != "MPO",
            )
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{path}: not an image that Pillow reads: another kind of file, damaged, or of a depth that it does not"
            " read; save it as a PNG of 8 bits per channel, or remove it"
        ) from None
    except _DECODER_ERRORS as error:
        raise ValueError(f"{path}: not an image that Pillow reads ({_one_line(error)})") from None


def read_pixels(
    path: Path,
    header: Header,
    *,
    is_grey: bool,
    background: str,
    transform: Transform | None = None,
    file: BytesIO | None = None,
) -> Tensor:
    """The pixels uint8 ``[C, H, W]``, upright, with transparent ones on the background; C is 1 for ``is_grey``, else 3.

    Args:
        path: the file, or its name for messages if ``file`` is given.
        header: result of `read_header`.
        is_grey: whether to return one channel.
        background: the colour behind transparent pixels, and of padding.
        transform: resizing or another conversion; None keeps the image as it is.
        file: its bytes.

    Raises:
        ValueError: the file is damaged, or has changed since its header was read.
    """
    try:
        with _only_bombs_warn(), _opened(path, file) as image:
            is_changed = sorted(image.size) != sorted(header.size)
            if transform is not None and transform.draft_size is not None:
                image.draft(None, (transform.draft_size,) * 2)  # decode a JPEG at reduced size, which is faster
            image.load()  # also rotates a TIFF
            pixels = _upright_pixels(image, header.is_transparent, is_grey, background, transform)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; it was there when the folder was read") from None
    except _DECODER_ERRORS as error:
        raise ValueError(f"{path}: the image is truncated or damaged ({_one_line(error)})") from None
    side = None if transform is None else transform.size
    width, height = header.size if side is None else (side, side)
    if is_changed or pixels.shape[:2] != (height, width):
        raise ValueError(f"{path}: changed while the folder was read")
    return torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1)


def decode_image(
    data: bytes,
    name: str,
    background: str = "white",
    *,
    is_grey: bool | None = None,
    transform: Transform | None = None,
) -> Tensor:
    """Read the pixels of an image file, uint8 ``[C, H, W]``: C is 1 for ``is_grey`` (None: if it is grey), else 3.

    Raises:
        ValueError: it is damaged, too large or not 8 bits deep; the message begins with ``name``.
    """
    max_pixels = MAX_PIXELS if transform is None or transform.size is None else MAX_RESIZED_PIXELS
    header = read_header(Path(name), BytesIO(data), max_pixels=max_pixels)
    grey = header.is_grey if is_grey is None else is_grey
    return read_pixels(Path(name), header, is_grey=grey, background=background, transform=transform, file=BytesIO(data))


def stack_images(
    images: Sequence[Any],
    name: str,
    *,
    is_grey: bool | None = None,
    background: str = "white",
    resize: Resize | None = None,
) -> Tensor:
    """The pixels of Pillow images, uint8 ``[N, C, H, W]``, upright and on the background as those of files are.

    Args:
        images: the images.
        name: how error messages call them.
        is_grey: whether C is 1, else it is 3; None: whether all images are grey.
        background: the colour behind transparent pixels, and of padding.
        resize: what makes each a square; None requires that all have one size.

    Raises:
        ValueError: an image that is damaged, deeper than 8 bits or of another size.
        TypeError: something else among the images.
    """
    for index, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise TypeError(f"{name}: item {index} must be a Pillow image as item 0, got {type(image).__name__}")
        read_from_start = image.format in ("JPEG2000", "AVIF")
        if image.mode not in _GREY_MODES + _COLOUR_MODES or (
            not read_from_start and depth_of(image, Path(name), None) is not None
        ):
            raise ValueError(
                f"{name}: images must have 8 bits per channel, item {index} has Pillow's mode {image.mode!r}; convert"
                " it, or give an array of float32"
            )
    grey = all(image.mode in _GREY_MODES for image in images) if is_grey is None else is_grey
    stacked: list[NDArray[np.uint8]] = []
    for index, image in enumerate(images):
        try:
            is_transparent = image.has_transparency_data
            pixels = _upright_pixels(image, is_transparent, grey, background, resize)
        except _DECODER_ERRORS as error:
            raise ValueError(f"{name}: item {index} is truncated or damaged ({_one_line(error)})") from None
        if stacked and pixels.shape != stacked[0].shape:
            raise ValueError(
                f"{name}: all images must have one size, item 0 has {stacked[0].shape[1]} x {stacked[0].shape[0]}"
                f" pixels, item {index} {pixels.shape[1]} x {pixels.shape[0]}; use image.resize((64, 64))"
            )
        stacked.append(pixels)
    array = np.stack(stacked)
    return torch.from_numpy(array).view(*array.shape[:3], -1).permute(0, 3, 1, 2)


def _upright_pixels(
    image: Image.Image, is_transparent: bool, is_grey: bool, background: str, transform: Transform | None
) -> NDArray[np.uint8]:
    """[H, W] or [H, W, 3], turned as the EXIF data say; a TIFF was turned when it was decoded."""
    upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
    if is_transparent:
        upright = _composited(upright, background)
    converted = upright.convert("L" if is_grey else "RGB")
    return np.array(converted if transform is None else transform(converted, background))


class _Refused(Exception):
    """A rule that the image breaks."""


def _composited(image: Image.Image, background: str) -> Image.Image:
    rgba = image.convert("RGBA")
    behind = Image.new("RGBA", image.size, ImageColor.getrgb(background)[:3])
    return Image.alpha_composite(behind, rgba).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if upright; for a PNG only if it precedes the pixels, to avoid decoding."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


@contextlib.contextmanager
def _opened(path: Path, file: BytesIO | None) -> Iterator[Image.Image]:
    """Open an image, never by its path: Pillow then maps TIFFs into memory and rotates them incorrectly."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(path.open("rb")) if file is None else file
        yield stack.enter_context(Image.open(source))


@contextlib.contextmanager
def _only_bombs_warn() -> Iterator[None]:
    """Pillow's warning of huge dimensions as an error; warnings of unusual metadata are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
