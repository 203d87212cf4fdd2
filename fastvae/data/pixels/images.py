"""A user's own folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastvae.data.files.folders import Listing, list_folder
from fastvae.data.files.image_files import (
    MAX_PIXELS,
    MAX_RESIZED_PIXELS,
    Header,
    image_extensions,
    read_header,
    read_pixels,
)
from fastvae.data.files.image_transforms import Resize
from fastvae.data.pixels.augment import resize_of
from fastvae.data.pixels.config import ImagesConfig
from fastvae.data.pixels.on_demand import ImageFiles
from fastvae.data.source import Source, TensorSource


def load_folder(
    folder: Path,
    *,
    max_bytes: int,
    classes: Sequence[str] | None = None,
    config: ImagesConfig | None = None,
    leave_out_broken: bool = False,
) -> Source:
    """All images of a folder and its sub-folders, uint8 ``[N, C, H, W]``, sorted by path.

    They are decoded at once and kept in memory; with random transformations, or if they need too much memory, each is
    decoded when it is needed.

    C is 1 if all images are grey, else 3. Images are rotated according to their EXIF data, transparent pixels are put
    on a background, and images of several sizes are resized to squares if the configuration has a size. If the images
    are in sub-folders, the index of the folder is the label. Files without the suffix of an image, or whose name starts
    with a dot, are skipped, and counted in the source's ``notes``.

    Args:
        folder: the folder.
        max_bytes: largest size of all pixels in memory.
        classes: the names that sub-folders may have; None uses those of `folder_classes`.
        config: how images are read; the defaults where None.
        leave_out_broken: whether images that cannot be decoded are left out, and counted in the notes; each is decoded
            once to find out.

    Raises:
        ValueError: no images; one that is damaged, too large, of another size or not 8 bits deep (the message names
            it); or a sub-folder that is not one of the classes.
    """
    config = config or ImagesConfig()
    resize = resize_of(config)
    max_pixels = MAX_PIXELS if resize is None else MAX_RESIZED_PIXELS
    listing, headers, broken = _with_headers(_images_of(folder), max_pixels, leave_out_broken)
    if leave_out_broken:
        listing, headers, truncated = _with_pixels(listing, headers, resize)
        broken += truncated
    size = _common_size(listing.paths, headers) if resize is None else (resize.size, resize.size)
    is_grey = all(header.is_grey for header in headers)
    shape = (len(headers), 1 if is_grey else 3, size[1], size[0])
    details = [*_details(listing, headers, config), *broken]
    labels = _labels(folder, listing.paths, classes)
    if config.augment or np.prod(shape, dtype=object) > max_bytes:
        images = ImageFiles(listing.paths, headers, config=config, event_shape=shape[1:], labels=labels)
        why = f"augment {' '.join(config.augment)}" if config.augment else "more than --data.max-gib"
        images.notes = (listing.line("images", [*details, f"each when it is needed ({why})"]),)
        return images
    pixels = torch.empty(shape, dtype=torch.uint8)
    for image, path, header in zip(pixels, listing.paths, headers, strict=True):
        image.copy_(read_pixels(path, header, is_grey=is_grey, background=config.background, transform=resize))
    source = TensorSource(pixels, labels, name=str(folder))
    guesses = source.notes if source.levels == 2 else ()
    source.notes = (*guesses, listing.line("images", details))
    return source


def folder_classes(folder: Path) -> tuple[str, ...] | None:
    """Return the sorted names of the sub-folders with images; None if images are in the folder itself.

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
            f"{folder}: contains no images; searched for {', '.join(image_extensions()[:10])} and other formats of "
            "Pillow,"
            f" sub-folders too{f'; {empty}' if empty else ''}"
        )
    return listing


def _with_headers(listing: Listing, max_pixels: int, leave_out_broken: bool) -> tuple[Listing, list[Header], list[str]]:
    """Return the listing of the images whose header can be read, the headers, and a detail about the others."""
    headers: dict[Path, Header] = {}
    reasons: list[str] = []
    for path in listing.paths:
        try:
            headers[path] = read_header(path, max_pixels=max_pixels)
        except ValueError as error:
            reasons.append(str(error))
            if not leave_out_broken:
                raise
    if not headers:
        raise ValueError(f"{listing.folder}: none of its {len(reasons)} images can be read, such as {reasons[0]}")
    details = [f"{len(reasons):,} left out that cannot be read, such as {reasons[0]}"] if reasons else []
    return replace(listing, paths=tuple(headers)), list(headers.values()), details


def _with_pixels(
    listing: Listing, headers: Sequence[Header], resize: Resize | None
) -> tuple[Listing, list[Header], list[str]]:
    """Return the listing of the images that can be decoded, their headers, and a detail about the others."""

    def why_broken(path: Path, header: Header) -> str | None:
        try:
            read_pixels(path, header, is_grey=header.is_grey, background="white", transform=resize)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
        reasons = list(pool.map(why_broken, listing.paths, headers))
    good = [number for number, reason in enumerate(reasons) if reason is None]
    said = [reason for reason in reasons if reason is not None]
    if not good:
        raise ValueError(f"{listing.folder}: none of its {len(said)} images can be decoded, such as {said[0]}")
    details = [f"{len(said):,} left out that cannot be decoded, such as {said[0]}"] if said else []
    kept = replace(listing, paths=tuple(listing.paths[number] for number in good))
    return kept, [headers[number] for number in good], details


def _common_size(paths: Sequence[Path], headers: Sequence[Header]) -> tuple[int, int]:
    """Return the width and height of all images."""
    size = headers[0].size
    for path, header in zip(paths, headers, strict=True):
        if header.size != size:
            raise ValueError(
                f"{path}: all images must have one size; this one is {header.size[0]} x {header.size[1]} pixels, "
                f"{paths[0].name} is {size[0]} x {size[1]}; --data.images.size 64 resizes all to 64 x 64"
            )
    return size


def _details(listing: Listing, headers: Sequence[Header], config: ImagesConfig) -> list[str]:
    """Describe the conversions of images."""
    counted = (
        (sum(header.is_turned for header in headers), "turned upright"),
        (
            sum(header.is_transparent for header in headers),
            f"with transparency, on {config.background} (--data.images.background)",
        ),
        (sum(header.is_animated for header in headers), "with several pictures, of which the first is read"),
        (
            0 if config.size is None else sum(header.size != (config.size, config.size) for header in headers),
            f"resized to {config.size} x {config.size} (--data.images.fit {config.fit})",
        ),
    )
    details = [f"{number:,} {what}" for number, what in counted if number]
    names = {path.relative_to(listing.folder).parts[0] for path in listing.paths if path.parent != listing.folder}
    num_loose = sum(path.parent == listing.folder for path in listing.paths)
    if names and num_loose:
        details.append(f"no classes, since {num_loose:,} are next to the sub-folders")
    empty = sorted(
        child.name
        for child in listing.folder.iterdir()
        if child.is_dir() and child.name not in names and not child.name.startswith(".")
    )
    if names and empty:
        details.append(f"no image in {', '.join(empty[:4])}")
    return details


def _sub_folders(folder: Path, paths: Sequence[Path]) -> list[str] | None:
    """Return the sub-folder of each image; None if some are in the folder itself: there are no classes."""
    names = [path.relative_to(folder).parts[0] for path in paths if len(path.relative_to(folder).parts) > 1]
    return names if len(names) == len(paths) else None


def _labels(folder: Path, paths: Sequence[Path], classes: Sequence[str] | None) -> Tensor | None:
    names = _sub_folders(folder, paths)
    if names is None:
        return None
    known = {name: number for number, name in enumerate(classes or sorted(set(names)))}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{folder}: sub-folder {unknown[0]!r} is not one of the training classes {list(known)}")
    return torch.tensor([known[name] for name in names])
