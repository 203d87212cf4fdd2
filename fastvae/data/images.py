"""A user's own folder of images, read with Pillow."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastvae.data.source import TensorSource

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MAX_PIXELS = 2**24  # 4096 x 4096; far above what a VAE reads, far below what fills a memory

_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")

# What Pillow's decoders raise on damaged files, beside its own UnidentifiedImageError (an OSError).
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, struct.error,
    zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def load_folder(folder: Path, *, max_bytes: int, classes: Sequence[str] | None = None) -> TensorSource:
    """All images of a folder and its sub-folders, uint8 ``[N, C, H, W]``, sorted by path.

    C is 1 if all images are grey, else 3 (transparency is dropped). If the images lie in sub-folders, each folder's
    place among the classes is the label. Files that do not end like an image are passed over.

    Args:
        folder: the folder.
        max_bytes: the most bytes that all pixels together may take.
        classes: the names that sub-folders may have; None takes those that `folder_classes` finds.

    Raises:
        ValueError: no images; one that is damaged, too large, of another size or not 8 bits deep (it is named); or a
            sub-folder that is none of the classes.
    """
    paths = _image_paths(folder)
    size, mode = _common_size_and_mode(paths)
    shape = (len(paths), 1 if mode == "L" else 3, size[1], size[0])
    if np.prod(shape, dtype=object) > max_bytes:
        raise ValueError(
            f"{folder}: {len(paths)} images of {size[0]} x {size[1]} pixels take more than the limit of "
            f"{max_bytes / 2**30:.2f} GiB (--data.max-gib)"
        )
    images = torch.empty(shape, dtype=torch.uint8)
    for image, path in zip(images, paths, strict=True):
        image.copy_(_pixels(path, size, mode))
    return TensorSource(images, _labels(folder, paths, classes), name=str(folder))


def folder_classes(folder: Path) -> tuple[str, ...] | None:
    """The names of the sub-folders that hold images, sorted; None where images lie in the folder itself.

    Raises:
        ValueError: no images.
    """
    names = _sub_folders(folder, _image_paths(folder))
    return None if names is None else tuple(sorted(set(names)))


def decode_image(data: bytes, name: str) -> Tensor:
    """One image file's pixels, uint8 ``[C, H, W]``: C is 1 if it is grey, else 3.

    Raises:
        ValueError: it is damaged, too large or not 8 bits deep; the message begins with ``name``.
    """
    (width, height), mode = _header(Path(name), BytesIO(data))
    return _pixels(Path(name), (width, height), "L" if mode in _GREY_MODES else "RGB", BytesIO(data))


def _common_size_and_mode(paths: list[Path]) -> tuple[tuple[int, int], str]:
    """Size (width, height) and Pillow mode of all images, from their headers."""
    headers = [_header(path) for path in paths]
    size = headers[0][0]
    for path, (other, _) in zip(paths, headers, strict=True):
        if other != size:
            raise ValueError(
                f"{path}: all images must have one size; this one is {other[0]} x {other[1]} pixels, "
                f"{paths[0].name} is {size[0]} x {size[1]}; resize or crop them first"
            )
    return size, "L" if all(mode in _GREY_MODES for _, mode in headers) else "RGB"


def _header(path: Path, file: BytesIO | None = None) -> tuple[tuple[int, int], str]:
    with _open(path, file) as image:
        size, mode = image.size, image.mode
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{path}: {size[0]} x {size[1]} pixels are more than the limit of {MAX_PIXELS}; resize it first"
        )
    if mode not in _GREY_MODES + _COLOUR_MODES:
        raise ValueError(f"{path}: must have 8 bits per channel, got Pillow's mode {mode!r}; convert it, or use .npy")
    return size, mode


def _pixels(path: Path, size: tuple[int, int], mode: str, file: BytesIO | None = None) -> Tensor:
    with _open(path, file) as image:
        if image.size != size:
            raise ValueError(f"{path}: changed while the folder was read")
        try:
            with _only_bombs_warn():
                pixels = np.array(image.convert(mode))
        except _DECODER_ERRORS as error:
            raise ValueError(f"{path}: the image is truncated or damaged ({error})") from error
    return torch.from_numpy(pixels).view(size[1], size[0], -1).permute(2, 0, 1)


def _open(path: Path, file: BytesIO | None = None) -> Image.Image:
    """The image at ``path``, or in ``file``, which then goes by that name."""
    try:
        with _only_bombs_warn():
            return Image.open(path if file is None else file)
    except _DECODER_ERRORS as error:
        raise ValueError(f"{path}: not an image that Pillow reads ({error})") from error


@contextlib.contextmanager
def _only_bombs_warn() -> Iterator[None]:
    """Pillow's warning of huge dimensions as an error; those of odd metadata, which nobody reads, not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _image_paths(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not paths:
        raise ValueError(f"{folder}: holds no images; looked for {', '.join(EXTENSIONS)}, in sub-folders too")
    return paths


def _sub_folders(folder: Path, paths: list[Path]) -> list[str] | None:
    """Of each image the sub-folder that it lies in; None where some lie in the folder itself: there are no classes."""
    names = [path.relative_to(folder).parts[0] for path in paths if len(path.relative_to(folder).parts) > 1]
    return names if len(names) == len(paths) else None


def _labels(folder: Path, paths: list[Path], classes: Sequence[str] | None) -> Tensor | None:
    names = _sub_folders(folder, paths)
    if names is None:
        return None
    known = {name: number for number, name in enumerate(classes or sorted(set(names)))}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{folder}: sub-folder {unknown[0]!r} is none of the training classes {list(known)}")
    return torch.tensor([known[name] for name in names])
