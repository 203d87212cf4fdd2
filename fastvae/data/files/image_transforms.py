"""Conversions of decoded images to the size of the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from fastvae.data.source import Draws


class Transform(Protocol):
    """Conversion of a decoded image to the size of the examples, such as `Resize`."""

    @property
    def size(self) -> int | None:
        """Side of the resulting square in pixels; None keeps the image's size."""

    @property
    def draft_size(self) -> int | None:
        """Smallest side at which the image may be decoded; None for its own."""

    def __call__(self, image: Image.Image, background: str) -> Image.Image:
        """Convert a grey or colour image."""


class Transforms(Protocol):
    """The transformations of a run's images."""

    @property
    def size(self) -> int | None:
        """Side of the examples in pixels; None keeps the size of the images."""

    @property
    def background(self) -> str:
        """The colour behind transparent pixels, and of padding."""

    @property
    def is_random(self) -> bool:
        """Whether training images are transformed at random."""

    @property
    def plain(self) -> Transform | None:
        """The transformation of every image in evaluation."""

    def draw(self, indices: Tensor, draws: Draws) -> Sequence[Transform | None]:
        """Return the transformation of each of these training examples, int64 ``[B]``."""


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resizing of images to squares of one size."""

    size: int
    """Side of the square in pixels."""
    fit: Literal["centre-crop", "pad", "stretch"] = "centre-crop"
    """Cut the longer side, pad the shorter one with the background, or stretch both."""
    filter: Literal["box", "bilinear", "bicubic", "lanczos"] = "lanczos"
    """Pillow's filter."""

    @property
    def method(self) -> Image.Resampling:
        """The filter."""
        return Image.Resampling[self.filter.upper()]

    @property
    def draft_size(self) -> int:
        """Smallest side at which the whole image may be decoded."""
        return 2 * self.size

    def __call__(self, image: Image.Image, background: str) -> Image.Image:
        """Resize a grey or colour image."""
        square, method = (self.size, self.size), self.method
        if self.fit == "stretch":
            return image.resize(square, method)
        if self.fit == "centre-crop":
            return ImageOps.fit(image, square, method)
        scale = self.size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        padded = Image.new(image.mode, square, ImageColor.getcolor(background, image.mode))
        padded.paste(image.resize((width, height), method), ((self.size - width) // 2, (self.size - height) // 2))
        return padded
