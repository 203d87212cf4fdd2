"""Settings of image files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings

Fit = Literal["centre-crop", "pad", "stretch"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Settings):
    """How image files are converted to pixels."""

    size: int | None = None
    """Resize every image to a square of this side, in pixels; None requires images of one size."""
    fit: Fit = "centre-crop"
    """How an image is fitted to the size: crop its longer side, pad its shorter side with the background, or stretch
    both. Requires size."""
    background: str = "white"
    """Colour behind transparent pixels and of padding: a name such as black, or #rrggbb."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"ImagesConfig: size must be at least 1 pixel, or None, got {self.size}")
        if self.background != "white":
            from PIL import ImageColor

            try:
                ImageColor.getrgb(self.background)
            except ValueError:
                raise ValueError(
                    f"ImagesConfig: background must be a colour such as white or #ff8000, got {self.background!r}"
                ) from None
