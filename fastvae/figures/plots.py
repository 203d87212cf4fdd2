"""Plots of a run: the latent space and the curves of training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

_SETTLED = 0.1  # fraction of a curve that its axis may cut off, since the initial decrease would dominate it
_CURVES = {  # name in metrics.jsonl: title, unit
    "elbo_nats": ("ELBO (higher is better)", "nats per example"),
    "rate_nats": ("rate, KL(q(z|x) || p(z))", "nats per example"),
    "distortion_nats": ("distortion, -log p(x|z)", "nats per example"),
    "squared_error": ("squared error", "sum over an example's values"),
    "penalty": ("penalty", "in the units of the loss"),
}


def save_latents(
    path: Path,
    means: Tensor,
    labels: Tensor | None = None,
    label_names: Sequence[str] | None = None,
    *,
    title: str = "Latent space",
) -> None:
    """Draw the mean latents on their first two principal axes, coloured by label.

    Args:
        path: the PNG to write.
        means: [N, D]; D = 2 is drawn unchanged.
        labels: [N] integers, or None for one colour.
        label_names: names of the labels 0, 1, ...; without them the legend shows the integers.
        title: title of the figure.
    """
    points, names = _project(means.detach().cpu().double().numpy())
    from matplotlib.figure import Figure  # imported here: it takes half a second

    figure = Figure(figsize=(6.4, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(6000 / max(len(points), 1), 5, 20))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.7)
    else:
        _scatter_by_label(axes, points, labels.cpu().numpy(), label_names, size)
    axes.set(title=f"{title}: mean latents of {len(points):,} test examples", xlabel=names[0], ylabel=names[1])
    axes.set_aspect("equal", adjustable="datalim")
    tidy(axes)
    figure.savefig(path)


def save_maps(
    path: Path,
    maps: Mapping[str, Tensor],
    labels: Tensor,
    label_names: Sequence[str] | None = None,
    *,
    title: str = "Maps",
) -> None:
    """Draw maps of the same examples side by side, coloured by label; their axes have no meaning.

    Args:
        path: the PNG to write.
        maps: points [N, 2] by the title of the map.
        labels: [N] integers.
        label_names: names of the labels 0, 1, ...; without them the legend shows the integers.
        title: title of the figure.
    """
    from matplotlib.figure import Figure  # imported here: it takes half a second

    figure = Figure(figsize=(4.8 * len(maps) + 0.8, 4.8), dpi=100, layout="constrained")
    figure.suptitle(title)
    for index, (axes, (name, points)) in enumerate(
        zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True)
    ):
        size = float(np.clip(6000 / max(len(points), 1), 4, 20))
        _scatter_by_label(axes, points.numpy(), labels.numpy(), label_names, size)
        if index < len(maps) - 1:
            axes.get_legend().remove()
        axes.set(title=name, xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(False)
    figure.savefig(path)


def save_curves(path: Path, metrics: Path, *, title: str = "Training") -> None:
    """Draw ELBO, rate and distortion over the steps, of training and evaluation, from ``metrics.jsonl``.

    Args:
        path: the PNG to write.
        metrics: lines of JSON with ``kind`` ("train", "evaluation" or "final"), ``step`` and the values.
        title: title of the figure.

    Raises:
        ValueError: the file contains none of the values that are drawn.
    """
    records = [json.loads(line) for line in Path(metrics).read_text(encoding="utf-8").splitlines()]
    names = [name for name in _CURVES if any(record.get(name) is not None for record in records)]
    if not names:
        raise ValueError(f"save_curves: {metrics} must contain one of {', '.join(_CURVES)}, got none; train first")
    from matplotlib.figure import Figure  # imported here: it takes half a second

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
    tidy(axes)


def _scatter_by_label(axes: Axes, points: Array, labels: Array, names: Sequence[str] | None, size: float) -> None:
    import matplotlib

    found = np.unique(labels)
    colours = matplotlib.colormaps["tab10" if len(found) <= 10 else "turbo"]
    for i, label in enumerate(found):
        colour = colours(i if len(found) <= 10 else i / (len(found) - 1))
        chosen = points[labels == label]
        name = str(label) if names is None else names[label]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, color=colour, linewidths=0, alpha=0.75, label=name)
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
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)  # the sign of an axis is arbitrary: choose it reproducibly
    first, second = (
        f"{order} principal axis ({share:.0%} of the variance)"
        for order, share in zip(("first", "second"), shares, strict=True)
    )
    return centred @ axes, (first, second)


def tidy(axes: Axes) -> None:
    """A plot without a frame, on a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.92")
    axes.set_axisbelow(True)
