"""The choice between the renderers of images and of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

from fastvae.data.dataset import Data
from fastvae.data.kind import Renderer
from fastvae.data.pixels.numbers import NumberRenderer
from fastvae.data.pixels.pictures import ImageRenderer


def renderer_of(data: Data) -> Renderer:
    """Return the renderer of images if the examples can be drawn, else that of plain numbers."""
    return ImageRenderer() if is_image(data.event_shape) else NumberRenderer()


def is_image(event_shape: Sequence[int]) -> bool:
    """Whether examples of this shape can be drawn: [H, W], or [1 or 3, H, W]."""
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[0] in (1, 3))
