"""A bar and a curve in a Jupyter notebook, redrawn in place."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from typing import Any

_WIDTH, _HEIGHT = 480, 120  # of the curve, in pixels
_MAX_POINTS = 400  # of the curve; of more every second one is dropped


def in_notebook() -> bool:
    """Whether this process runs the cells of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class NotebookView:
    """The output of a run in a notebook's cell.

    Args:
        num_steps: number of steps of the run.
        first_step: step at which this process starts.
    """

    def __init__(self, num_steps: int, first_step: int) -> None:
        self._num_steps, self._step, self._text = num_steps, first_step, ""
        self._points: list[tuple[int, float]] = []
        self._lines: list[str] = []
        self._handle: Any = None
        self._draw()

    def line(self, text: str) -> None:
        """Show a line above the bar."""
        self._lines.append(text)
        self._draw()

    def advance(self, step: int, text: str, value: float | None) -> None:
        """Move the bar to a step, and add a point to the curve.

        Args:
            step: number of completed steps.
            text: shown next to the bar.
            value: the loss; None for no point.
        """
        self._step, self._text = step, text or self._text
        if value is not None:
            self._points.append((step, value))
            if len(self._points) > _MAX_POINTS:
                self._points = self._points[::2]
        self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display  # imported here: it exists in notebooks only

        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self._lines)
        bar = f'<progress value="{self._step}" max="{self._num_steps}" style="width: {_WIDTH}px"></progress>'
        text = f"{self._step:,} / {self._num_steps:,}&nbsp; {html.escape(self._text)}"
        shown = HTML(f"<div>{lines}{bar} {text}{curve(self._points)}</div>")
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


def curve(points: Sequence[tuple[int, float]]) -> str:
    """Return points (step, value) as an SVG line with the values of its ends; empty for fewer than two."""
    if len(points) < 2:
        return ""
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    across, up = max(steps[-1] - steps[0], 1), (high - low) or 1.0
    places = " ".join(
        f"{(step - steps[0]) / across * _WIDTH:.1f},{(high - value) / up * _HEIGHT:.1f}" for step, value in points
    )
    line = f'<polyline points="{places}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>'
    label = f"<div>loss: {values[0]:.5g} at step {steps[0]:,}, {values[-1]:.5g} at step {steps[-1]:,}</div>"
    return f'<div><svg width="{_WIDTH}" height="{_HEIGHT}">{line}</svg>{label}</div>'
