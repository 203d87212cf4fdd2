"""A folder of images that is compressed to one archive, and restored with the same names and pixels."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from fastvae.applications.compression.container import MAX_HEADER_BYTES
from fastvae.applications.compression.pixel_file import PixelFile, Pixels
from fastvae.data.files.folders import Listing, list_folder
from fastvae.data.files.image_files import Header, image_extensions, read_header, read_pixels
from fastvae.settings import Settings

_EXACT = (".png", ".bmp", ".tif", ".tiff")  # endings that are written with exactly these pixels
_NUL = "\0"


@dataclass(frozen=True, kw_only=True)
class Names(Settings):
    """The prefix of an archive of a folder: how its images are written back."""

    names: tuple[str, ...]
    """Path of each image below the folder, separated by slashes."""
    shape: tuple[int, int, int]
    """Channels, height and width."""
    white: int
    """Value of the highest level: 255 where black and white are stored as levels 0 and 1, otherwise 1 per level."""

    def __post_init__(self) -> None:
        for name in self.names:
            path = PurePosixPath(name)
            if not path.parts or path.is_absolute() or ".." in path.parts or _NUL in name or "\\" in name:
                raise ValueError(f"the names of the images are damaged: {name!r} is not below the folder")
            if path.suffix.lower() not in _EXACT:
                raise ValueError(f"the names of the images are damaged: {name!r} must end in {', '.join(_EXACT)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError("the names of the images are damaged: one occurs twice")
        if self.shape[0] not in (1, 3) or min(self.shape) < 1 or self.white not in (1, 255):
            raise ValueError(f"the images' shape {self.shape} or scale {self.white} is damaged")


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of a folder, and how they were read."""

    content: PixelFile
    """The pixels, and the names as their prefix."""
    num_bytes: int
    """Size of the image files."""
    line: str
    """How many files were read, and what was skipped."""


def read_image_folder(folder: Path, event_shape: Sequence[int], levels: int, *, max_bytes: int) -> ImageFolder:
    """Read the images of a folder and its sub-folders for compression, sorted by path.

    Args:
        folder: the folder.
        event_shape: shape of the model's examples, [C, H, W].
        levels: number of levels of the model's pixels; for 2 the images must be black and white.
        max_bytes: largest allowed size of all pixels together.

    Raises:
        ValueError: no images, or one that the archive could not restore: of another size than the model's, in colour
            for a grey model, with transparency, with several frames, or damaged; the message names it.
    """
    if len(event_shape) != 3 or event_shape[0] not in (1, 3):
        raise ValueError(
            f"{folder} is a folder, and the run was trained on numbers of shape {list(event_shape)}, not on"
            " images; give a .npy file"
        )
    listing = list_folder(folder, image_extensions())
    if not listing.paths:
        raise ValueError(f"{listing.line('images')}; give a folder of images, or a file of pixels")
    channels, height, width = event_shape
    if len(listing.paths) * channels * height * width > max_bytes:
        raise ValueError(
            f"{folder}: {len(listing.paths)} images of {width} x {height} exceed the limit of"
            f" {max_bytes / 2**30:.3g} GiB; raise --max-gib, or split the folder"
        )
    pixels = np.stack([_pixels(path, channels, height, width) for path in listing.paths]).reshape(
        len(listing.paths), -1
    )
    white = 1
    if levels == 2 and pixels.max() > 1:
        pixels, white = _black_and_white(pixels, listing), 255
    names = Names(names=_names(listing), shape=(channels, height, width), white=white)
    prefix = json.dumps({"names": names.names, "shape": names.shape, "white": white}).encode("utf-8")
    if len(prefix) > MAX_HEADER_BYTES:
        raise ValueError(
            f"{folder}: the names of {len(listing.paths)} images are too long for one archive; split the folder"
        )
    num_bytes = sum(path.stat().st_size for path in listing.paths)
    line = listing.line("images")
    return ImageFolder(content=PixelFile(pixels=pixels, layout="folder", prefix=prefix), num_bytes=num_bytes, line=line)


def parse_names(prefix: bytes, num_examples: int, event_shape: Sequence[int]) -> Names:
    """The names of an archive's images.

    Raises:
        ValueError: they are damaged, or do not fit the archive.
    """
    try:
        fields: Any = json.loads(prefix)
        names = Names(names=tuple(map(str, fields["names"])), shape=tuple(fields["shape"]), white=int(fields["white"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the names of the images are damaged ({error})") from None
    if len(names.names) != num_examples or list(names.shape) != list(event_shape):
        raise ValueError(f"the archive names {len(names.names)} images and holds {num_examples}: it is damaged")
    return names


def check_target(out: Path) -> None:
    """ValueError if a folder of images cannot be written to ``out``: it is a file, or a folder with contents."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"--out: the archive holds a folder of images, and {out} exists; name a new folder")


def write_image_folder(out: Path, names: Names, pixels: Pixels) -> None:
    """Write images [N, P] as files below the folder ``out``, which appears when all are written."""
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    for name, image in zip(names.names, pixels, strict=True):
        path = temporary / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = (image * np.uint8(names.white)).reshape(names.shape).transpose(1, 2, 0)
        Image.fromarray(values[:, :, 0] if names.shape[0] == 1 else values).save(path)
    temporary.replace(out)


def _names(listing: Listing) -> tuple[str, ...]:
    """Names of the restored files: those of formats that may change pixels get .png appended."""
    names = tuple(
        path.relative_to(listing.folder).as_posix() + ("" if path.suffix.lower() in _EXACT else ".png")
        for path in listing.paths
    )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{listing.folder}: two images would be restored as {name}; rename one")
    return names


def _pixels(path: Path, channels: int, height: int, width: int) -> Pixels:
    header = read_header(path)
    reason = _why_not(header, channels, height, width)
    if reason is not None:
        raise ValueError(f"{path}: {reason}")
    image: Pixels = read_pixels(path, header, is_grey=channels == 1, background="white").numpy()
    return image


def _why_not(header: Header, channels: int, height: int, width: int) -> str | None:
    if header.size != (width, height):
        return (
            f"has {header.size[0]} x {header.size[1]} pixels, and the run's images have {width} x {height}; resize it"
        )
    if channels == 1 and not header.is_grey:
        return "is in colour, and the run's images are grey; convert it to grey"
    if header.is_transparent:
        return "has transparent pixels, which the archive does not keep; put it on a background"
    if header.is_animated:
        return "has several frames, of which the archive would keep one; save its frames as files"
    return None


def _black_and_white(pixels: Pixels, listing: Listing) -> Pixels:
    """Levels 0 and 1 of images of 0 and 255."""
    for path, image in zip(listing.paths, pixels, strict=True):
        others = image[(image != 0) & (image != 255)]
        if others.size:
            raise ValueError(
                f"{path}: must be black and white for this model, got the grey value {int(others[0])}; binarise"
                " the images first"
            )
    levels: Pixels = pixels // np.uint8(255)
    return levels
