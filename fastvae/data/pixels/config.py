"""How images are read, as a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings

Fit = Literal["centre-crop", "pad", "stretch"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Settings):
    """How image files become pixels."""

    size: int | None = None
    """Resize every image to a square of this side, in pixels; None for images that have one size already."""
    fit: Fit = "centre-crop"
    """Where size is set: cut the longer side of an image, pad the shorter one with the background, or stretch both."""
    background: str = "white"
    """The colour behind transparent pixels, and of padding: a name such as black, or #rrggbb."""

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
