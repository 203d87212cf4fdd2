"""Settings of image files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings, setting

Fit = Literal["centre-crop", "pad", "stretch"]
Filter = Literal["box", "bilinear", "bicubic", "lanczos"]
Augment = Literal["random-crop", "random-resized-crop", "flip", "colour-jitter"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Settings):
    """How image files are converted to pixels."""

    size: int | None = None
    """Resize every image to a square of this side, in pixels; None requires images of one size."""
    fit: Fit = "centre-crop"
    """How an image is fitted to the size: crop its longer side, pad its shorter side with the background, or stretch
    both. Requires size."""
    filter: Filter = setting("lanczos", advanced=True)
    """Filter of the resizing, as Pillow names it; all are antialiased."""
    augment: tuple[Augment, ...] = ()
    """Random transformations of the training images, new in every epoch; they are then read in every epoch too."""
    min_crop_area: float = setting(0.08, advanced=True)
    """Smallest share of an image's area in a random resized crop."""
    jitter: float = setting(0.1, advanced=True)
    """Largest relative change of brightness, contrast and saturation by colour-jitter."""
    background: str = setting("white", advanced=True)
    """Colour behind transparent pixels and of padding: a name such as black, or #rrggbb."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"ImagesConfig: size must be at least 1 pixel, or None, got {self.size}")
        self._check_augment()
        if self.background != "white":
            from PIL import ImageColor

            try:
                ImageColor.getrgb(self.background)
            except ValueError:
                raise ValueError(
                    f"ImagesConfig: background must be a colour such as white or #ff8000, got {self.background!r}"
                ) from None

    def _check_augment(self) -> None:
        crops = [name for name in self.augment if name in ("random-crop", "random-resized-crop")]
        if len(set(self.augment)) != len(self.augment) or len(crops) > 1:
            raise ValueError(
                "ImagesConfig: augment must have each transformation once, and one kind of crop, got "
                f"{' '.join(self.augment)}"
            )
        if crops and (self.size is None or self.fit != "centre-crop"):
            raise ValueError(
                f"ImagesConfig: augment {crops[0]} crops images to a size (--data.images.size) instead of fit="
                f"centre-crop, got size={self.size} and fit={self.fit}"
            )
        if not 0 < self.min_crop_area <= 1:
            raise ValueError(f"ImagesConfig: min_crop_area must be in (0, 1], got {self.min_crop_area}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"ImagesConfig: jitter must be in [0, 1), got {self.jitter}")
