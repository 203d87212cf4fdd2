"""Pictures of a run: reconstructions, samples, the latent space and the curves of training, each one PNG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

_GRID_WIDTH_IN = 7.0  # inches, of pictures made of images
_GAP = 1 / 8  # between two images, in image widths
_SETTLED = 0.1  # the share of a curve that its axis may cut off: the fall from the start hides all that follows
_CURVES = {  # name in metrics.jsonl: title, unit
    "elbo_nats": ("ELBO (higher is better)", "nats per example"),
    "rate_nats": ("rate, KL(q(z|x) || p(z))", "nats per example"),
    "distortion_nats": ("distortion, -log p(x|z)", "nats per example"),
    "squared_error": ("squared error", "sum over an example's values"),
}


def save_reconstructions(
    path: Path, originals: Tensor, reconstructions: Tensor, *, title: str = "Reconstructions", columns: int = 12
) -> None:
    """Draw pairs: each example above what the model makes of it.

    Args:
        path: the PNG to write.
        originals: [N, H, W], [N, 1 or 3, H, W], or [N, P] with P a square, in [0, 1].
        reconstructions: as ``originals``.
        title: stands above the picture.
        columns: pairs in a row.

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
    _save_image(
        path, image, title, "test examples, and what the model makes of their mean latents (no noise drawn)", rows
    )


def save_samples(
    path: Path, samples: Tensor, *, title: str = "Samples from the prior", columns: int | None = None
) -> None:
    """Draw new examples in a grid.

    Args:
        path: the PNG to write.
        samples: [N, H, W], [N, 1 or 3, H, W], or [N, P] with P a square, in [0, 1].
        title: stands above the picture.
        columns: images in a row; None makes the grid about square.

    Raises:
        ValueError: the shape is no image's.
    """
    images = _images(samples)
    columns = columns or max(1, math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    grid = _mosaic(_padded(images, rows * columns), columns)
    _save_image(path, grid, title, "mean of p(x|z), z drawn from N(0, I)")


def save_latents(path: Path, means: Tensor, labels: Tensor | None = None, *, title: str = "Latent space") -> None:
    """Draw the mean latents on their first two principal axes, coloured by label.

    Args:
        path: the PNG to write.
        means: [N, D]; D = 2 is drawn as it is.
        labels: [N] integers, or None for one colour.
        title: stands above the picture.
    """
    points, names = _project(means.detach().cpu().double().numpy())
    figure = Figure(figsize=(6.4, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(6000 / max(len(points), 1), 5, 20))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.7)
    else:
        _scatter_by_label(axes, points, labels.cpu().numpy(), size)
    axes.set(title=f"{title}: mean latents of {len(points):,} test examples", xlabel=names[0], ylabel=names[1])
    axes.set_aspect("equal", adjustable="datalim")
    _tidy(axes)
    figure.savefig(path)


def save_curves(path: Path, metrics: Path, *, title: str = "Training") -> None:
    """Draw ELBO, rate and distortion over the steps, of training and evaluation, from ``metrics.jsonl``.

    Args:
        path: the PNG to write.
        metrics: lines of JSON with ``kind`` ("train", "evaluation" or "final"), ``step`` and the values.
        title: stands above the picture.

    Raises:
        ValueError: the file holds none of the values that are drawn.
    """
    records = [json.loads(line) for line in Path(metrics).read_text(encoding="utf-8").splitlines()]
    names = [name for name in _CURVES if any(record.get(name) is not None for record in records)]
    if not names:
        raise ValueError(f"save_curves: {metrics} must hold one of {', '.join(_CURVES)}, got none; train a step first")
    figure = Figure(figsize=(4.2 * len(names), 3.6), dpi=150, layout="constrained")
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw_curve(axes, records, name)
    figure.savefig(path)


def _draw_curve(axes: Axes, records: Sequence[dict[str, Any]], name: str) -> None:
    settled = []
    for kinds, label, style in ((("train",), "train", "-"), (("evaluation", "final"), "test", "o-")):
        chosen = [(r["step"], r[name]) for r in records if r.get("kind") in kinds and r.get(name) is not None]
        if chosen:
            steps, values = zip(*chosen, strict=True)
            axes.plot(steps, values, style, label=label, linewidth=1.2, markersize=3.5)
            settled += list(values[int(_SETTLED * len(values)) :])
    low, high = min(settled), max(settled)
    margin = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.set(title=_CURVES[name][0], xlabel="step", ylabel=_CURVES[name][1])
    axes.legend(frameon=False)
    _tidy(axes)


def _scatter_by_label(axes: Axes, points: Array, labels: Array, size: float) -> None:
    import matplotlib

    found = np.unique(labels)
    colours = matplotlib.colormaps["tab10" if len(found) <= 10 else "turbo"]
    for i, label in enumerate(found):
        colour = colours(i if len(found) <= 10 else i / (len(found) - 1))
        chosen = points[labels == label]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, color=colour, linewidths=0, alpha=0.75, label=str(label))
    axes.legend(
        title="label", markerscale=math.sqrt(30 / size), frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )


def _project(means: Array) -> tuple[Array, tuple[str, str]]:
    """The means on two axes, [N, 2], and the axes' names."""
    if means.shape[1] == 1:
        return np.concatenate((means, np.zeros_like(means)), axis=1), ("$z_1$", "")
    if means.shape[1] == 2:
        return means, ("$z_1$", "$z_2$")
    centred = means - means.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / max(len(means), 1))
    shares = variances[::-1][:2] / max(variances.sum(), 1e-300)
    axes = directions[:, ::-1][:, :2]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)  # an axis has no sign of its own: pick one, the same every time
    first, second = (
        f"{order} principal axis ({share:.0%} of the variance)"
        for order, share in zip(("first", "second"), shares, strict=True)
    )
    return centred @ axes, (first, second)


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


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.92")
    axes.set_axisbelow(True)
