"""Figures of images: pairs of an example and its reconstruction, grids of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.dataset import Data

Array = NDArray[Any]

_GRID_WIDTH_IN = 7.0  # inches, of pictures made of images
_GAP = 1 / 8  # between two images, in image widths


def save_reconstructions(
    path: Path, originals: Tensor, reconstructions: Tensor, *, title: str = "Reconstructions", columns: int = 12
) -> None:
    """Draw pairs: each example above its reconstruction.

    Args:
        path: the PNG to write.
        originals: [N, H, W], [N, 1 or 3, H, W], or [N, P] with P a square, in [0, 1].
        reconstructions: as ``originals``.
        title: title of the figure.
        columns: number of pairs per row.

    Raises:
        ValueError: the shapes differ or are no images.
    """
    if originals.shape != reconstructions.shape:
        raise ValueError(
            f"save_reconstructions: reconstructions must have the originals' shape {list(originals.shape)},"
            f" got {list(reconstructions.shape)}"
        )
    above, below = _images(originals), _images(reconstructions)
    columns = max(1, min(columns, len(above)))
    gap = _gap(above.shape[2])
    pairs = [
        _mosaic(np.concatenate([_padded(half[first : first + columns], columns) for half in (above, below)]), columns)
        for first in range(0, len(above), columns)
    ]
    image = _stacked(pairs, 2 * gap)
    quarter, period = pairs[0].shape[0] / 4, pairs[0].shape[0] + 2 * gap
    rows = [
        (i * period + at, name) for i in range(len(pairs)) for at, name in ((quarter, "data"), (3 * quarter, "model"))
    ]
    _save_image(path, image, title, "examples, and reconstructions from their mean latents (without noise)", rows)


def save_samples(
    path: Path, samples: Tensor, *, title: str = "Samples from the prior", columns: int | None = None
) -> None:
    """Draw new examples in a grid.

    Args:
        path: the PNG to write.
        samples: [N, H, W], [N, 1 or 3, H, W], or [N, P] with P a square, in [0, 1].
        title: title of the figure.
        columns: number of images per row; None makes the grid about square.

    Raises:
        ValueError: the shape is not that of images.
    """
    images = _images(samples)
    columns = columns or max(1, math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    grid = _mosaic(_padded(images, rows * columns), columns)
    _save_image(path, grid, title, "decoded from z")


def save_rows(
    path: Path, rows: Tensor, names: Sequence[str], *, title: str = "Rows", note: str = "from left to right"
) -> None:
    """Draw one row of images for each name: a traversal of a latent dimension, or a path from one example to another.

    Args:
        path: the PNG to write.
        rows: [R, S, H, W], [R, S, 1 or 3, H, W], or [R, S, P] with P a square, in [0, 1].
        names: R names, left of the rows; an empty one shows nothing.
        title: title of the figure.
        note: note below it.

    Raises:
        ValueError: not one name for each row, or the rows are not images.
    """
    if len(names) != len(rows):
        raise ValueError(f"save_rows: names must be one for each of {len(rows)} rows, got {len(names)}")
    images = _images(rows.flatten(0, 1))
    period = images.shape[1] + _gap(images.shape[2])
    heights = [(row * period + images.shape[1] / 2, name) for row, name in enumerate(names) if name]
    _save_image(path, _mosaic(images, rows.shape[1]), title, note, heights)


class ImageRenderer:
    """Image data: PNG grids."""

    suffix = ".png"

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """A grid about square."""
        save_samples(path, examples.view(-1, *data.event_shape), title=title)

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Each example above its reconstruction."""
        shape = (-1, *data.event_shape)
        save_reconstructions(path, originals.view(shape), reconstructions.view(shape), title=title)

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """One row of images for each name."""
        save_rows(path, rows.view(*rows.shape[:2], *data.event_shape), names, title=title)


def _images(examples: Tensor) -> Array:
    """[N, ...] -> [N, H, W, 3] in [0, 1]."""
    array = examples.detach().cpu().float().numpy()
    if array.ndim == 2 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        array = array.reshape(len(array), math.isqrt(array.shape[1]), -1)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise ValueError(
            "figures: examples must be images, [N, H, W], [N, 1 or 3, H, W] or [N, a square],"
            f" got {list(examples.shape)}"
        )
    return np.broadcast_to(array.transpose(0, 2, 3, 1), (len(array), *array.shape[2:], 3)).clip(0, 1)


def _padded(images: Array, num: int) -> Array:
    """White images behind the last one, up to ``num``."""
    blank = np.ones((num - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate((images, blank))


def _gap(width: int) -> int:
    return max(1, round(_GAP * width))


def _mosaic(images: Array, columns: int) -> Array:
    """[R * columns, H, W, 3] -> one image of R rows, with white gaps."""
    count, height, width, _ = images.shape
    gap, rows = _gap(width), count // columns
    canvas = np.ones((rows, height + gap, columns, width + gap, 3), images.dtype)
    canvas[:, :height, :, :width] = images.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return canvas.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]


def _stacked(bands: Sequence[Array], space: int) -> Array:
    """Bands one above the other, ``space`` white pixels between them."""
    white = np.ones((space, *bands[0].shape[1:]), bands[0].dtype)
    return np.concatenate([part for band in bands for part in (band, white)][:-1])


def _save_image(path: Path, image: Array, title: str, note: str, rows: Sequence[tuple[float, str]] = ()) -> None:
    """Draw ``image`` with a title above, a note below and, left of it, names at the heights (in pixels) of ``rows``."""
    left, right, top, bottom = (0.62 if rows else 0.12), 0.12, 0.42, 0.36  # inches around the image
    shown_width = _GRID_WIDTH_IN - left - right
    shown_height = shown_width * image.shape[0] / image.shape[1]
    height = shown_height + top + bottom
    from matplotlib.figure import Figure  # imported here: it takes half a second

    figure = Figure(figsize=(_GRID_WIDTH_IN, height), dpi=150)
    place = (left / _GRID_WIDTH_IN, bottom / height, shown_width / _GRID_WIDTH_IN, shown_height / height)
    axes = figure.add_axes(place)
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.set_yticks([at for at, _ in rows], [name for _, name in rows])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    axes.set_xlabel(note, fontsize=8, color="0.35", labelpad=6)
    figure.savefig(path)
