"""A user's own folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastvae.data.files.folders import Listing, list_folder
from fastvae.data.files.image_files import Header, image_extensions, read_header, read_pixels
from fastvae.data.pixels.config import ImagesConfig
from fastvae.data.source import TensorSource


def load_folder(
    folder: Path, *, max_bytes: int, classes: Sequence[str] | None = None, config: ImagesConfig | None = None
) -> TensorSource:
    """All images of a folder and its sub-folders, uint8 ``[N, C, H, W]``, sorted by path.

    C is 1 if all images are grey, else 3. Images are turned upright as their EXIF data say, transparent pixels lie on
    a background. If the images lie in sub-folders, each folder's place among the classes is the label. Files that do
    not end like an image, or whose name begins with a dot, are passed over, and counted in the source's ``notes``.

    Args:
        folder: the folder.
        max_bytes: the most bytes that all pixels together may take.
        classes: the names that sub-folders may have; None takes those that `folder_classes` finds.
        config: how images are read; the defaults where None.

    Raises:
        ValueError: no images; one that is damaged, too large, of another size or not 8 bits deep (it is named); or a
            sub-folder that is none of the classes.
    """
    config = config or ImagesConfig()
    listing = _images_of(folder)
    headers = [read_header(path) for path in listing.paths]
    size = _common_size(listing.paths, headers)
    is_grey = all(header.is_grey for header in headers)
    shape = (len(headers), 1 if is_grey else 3, size[1], size[0])
    if np.prod(shape, dtype=object) > max_bytes:
        raise ValueError(
            f"{folder}: {len(headers)} images of {size[0]} x {size[1]} pixels take more than the limit of "
            f"{max_bytes / 2**30:.2f} GiB (--data.max-gib)"
        )
    images = torch.empty(shape, dtype=torch.uint8)
    for image, path, header in zip(images, listing.paths, headers, strict=True):
        image.copy_(read_pixels(path, header, is_grey=is_grey, background=config.background))
    source = TensorSource(images, _labels(folder, listing.paths, classes), name=str(folder))
    guesses = source.notes if source.levels == 2 else ()
    source.notes = (
        *guesses,
        listing.line("images", _details(listing, headers, config)),
    )
    return source


def folder_classes(folder: Path) -> tuple[str, ...] | None:
    """The names of the sub-folders that hold images, sorted; None where images lie in the folder itself.

    Raises:
        ValueError: no images.
    """
    names = _sub_folders(folder, _images_of(folder).paths)
    return None if names is None else tuple(sorted(set(names)))


def _images_of(folder: Path) -> Listing:
    listing = list_folder(folder, image_extensions())
    if not listing.paths:
        empty = Listing(folder, (), listing.num_hidden, listing.others).line("images").partition("; ")[2]
        raise ValueError(
            f"{folder}: holds no images; looked for {', '.join(image_extensions()[:10])} and what else Pillow reads, in"
            f" sub-folders too{f'; {empty}' if empty else ''}"
        )
    return listing


def _common_size(paths: Sequence[Path], headers: Sequence[Header]) -> tuple[int, int]:
    """Width and height of all images."""
    size = headers[0].size
    for path, header in zip(paths, headers, strict=True):
        if header.size != size:
            raise ValueError(
                f"{path}: all images must have one size; this one is {header.size[0]} x {header.size[1]} pixels, "
                f"{paths[0].name} is {size[0]} x {size[1]}; resize or crop them first"
            )
    return size


def _details(listing: Listing, headers: Sequence[Header], config: ImagesConfig) -> list[str]:
    """What was done to some of the images, in words."""
    counted = (
        (sum(header.is_turned for header in headers), "turned upright"),
        (
            sum(header.is_transparent for header in headers),
            f"with transparency, on {config.background} (--data.images.background)",
        ),
        (sum(header.is_animated for header in headers), "with several pictures, of which the first is read"),
    )
    details = [f"{number:,} {what}" for number, what in counted if number]
    names = {path.relative_to(listing.folder).parts[0] for path in listing.paths if path.parent != listing.folder}
    num_loose = sum(path.parent == listing.folder for path in listing.paths)
    if names and num_loose:
        details.append(f"no classes, since {num_loose:,} lie beside the sub-folders")
    empty = sorted(
        child.name
        for child in listing.folder.iterdir()
        if child.is_dir() and child.name not in names and not child.name.startswith(".")
    )
    if names and empty:
        details.append(f"no image in {', '.join(empty[:4])}")
    return details


def _sub_folders(folder: Path, paths: Sequence[Path]) -> list[str] | None:
    """Of each image the sub-folder that it lies in; None where some lie in the folder itself: there are no classes."""
    names = [path.relative_to(folder).parts[0] for path in paths if len(path.relative_to(folder).parts) > 1]
    return names if len(names) == len(paths) else None


def _labels(folder: Path, paths: Sequence[Path], classes: Sequence[str] | None) -> Tensor | None:
    names = _sub_folders(folder, paths)
    if names is None:
        return None
    known = {name: number for number, name in enumerate(classes or sorted(set(names)))}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{folder}: sub-folder {unknown[0]!r} is none of the training classes {list(known)}")
    return torch.tensor([known[name] for name in names])
