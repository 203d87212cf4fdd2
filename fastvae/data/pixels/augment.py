"""Random transformations of training images: crops, flips, colours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageEnhance
from torch import Tensor

from fastvae.data.files.image_transforms import Resize
from fastvae.data.pixels.config import Augment, ImagesConfig
from fastvae.data.source import Draws
from fastvae.ops import AugmentationSite, Use, noise_key, philox_uniform, stream

_RATIO = 4 / 3  # the largest aspect ratio of a random resized crop, and one over the smallest
_DRAWS = 8  # uniform numbers of an example; each transformation has its own
_AREA, _ASPECT, _LEFT, _TOP, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION = range(_DRAWS)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Augmentation:
    """The transformations of a run's images, see `fastvae.data.files.image_transforms.Transforms`."""

    config: ImagesConfig

    @property
    def size(self) -> int | None:
        """Side of the examples in pixels; None keeps the size of the images."""
        return self.config.size

    @property
    def background(self) -> str:
        """The colour behind transparent pixels, and of padding."""
        return self.config.background

    @property
    def is_random(self) -> bool:
        """Whether training images are transformed at random."""
        return bool(self.config.augment)

    @property
    def plain(self) -> Resize | None:
        """The transformation of every image in evaluation."""
        return resize_of(self.config)

    def draw(self, indices: Tensor, draws: Draws) -> list[DrawnImage]:
        """Return the transformation of each of these training examples, int64 ``[B]``."""
        numbers = zip(indices.tolist(), draws.visits.tolist(), strict=True)
        return [self.draw_one(draws.seed, visit, index) for index, visit in numbers]

    def draw_one(self, seed: int, epoch: int, index: int) -> DrawnImage:
        """Return the transformation of example ``index`` in an epoch: a function of these numbers only."""
        key = noise_key(seed, epoch, index)
        u = philox_uniform(key, 1, _DRAWS, stream=stream(Use.AUGMENTATION, AugmentationSite.IMAGE))
        return DrawnImage(self.config, tuple(u[0].tolist()))


@dataclass(frozen=True)
class DrawnImage:
    """One image's transformation; used like `Resize`."""

    config: ImagesConfig
    draws: tuple[float, ...]
    """Uniform numbers in (0, 1)."""

    @property
    def size(self) -> int | None:
        """Side of the square in pixels; None keeps the image's size."""
        return self.config.size

    @property
    def draft_size(self) -> int | None:
        """Smallest side at which the whole image may be decoded."""
        resize = resize_of(self.config)
        if resize is None or "random-resized-crop" not in self.config.augment:
            return None if resize is None else resize.draft_size
        return math.ceil(resize.draft_size / math.sqrt(self.config.min_crop_area))

    def __call__(self, image: Image.Image, background: str) -> Image.Image:
        """Transform a grey or colour image."""
        names, resize = self.config.augment, resize_of(self.config)
        boxes: dict[Augment, Callable[[int, int], Box]] = {
            "random-crop": self._square,
            "random-resized-crop": self._resized,
        }
        crop = next((boxes[name] for name in names if name in boxes), None)
        if resize is not None and crop is not None:
            image = image.resize((resize.size, resize.size), resize.method, box=crop(*image.size))
        elif resize is not None:
            image = resize(image, background)
        if "flip" in names and self.draws[_FLIP] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self._jittered(image) if "colour-jitter" in names else image

    def _square(self, width: int, height: int) -> Box:
        side = min(width, height)
        return self._placed(width, height, side, side)

    def _resized(self, width: int, height: int) -> Box:
        """A box of random area and aspect ratio; one that is too wide or high is scaled down, not distorted."""
        smallest = self.config.min_crop_area
        area = width * height * (smallest + (1 - smallest) * self.draws[_AREA])
        aspect = math.exp(math.log(_RATIO) * (2 * self.draws[_ASPECT] - 1))
        box_width, box_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        scale = min(1.0, width / box_width, height / box_height)
        return self._placed(width, height, box_width * scale, box_height * scale)

    def _placed(self, width: int, height: int, box_width: float, box_height: float) -> Box:
        left = self.draws[_LEFT] * max(0.0, width - box_width)  # the difference may round to less than 0
        top = self.draws[_TOP] * max(0.0, height - box_height)
        return left, top, min(left + box_width, width), min(top + box_height, height)

    def _jittered(self, image: Image.Image) -> Image.Image:
        changes = [(ImageEnhance.Brightness, _BRIGHTNESS), (ImageEnhance.Contrast, _CONTRAST)]
        if image.mode != "L":
            changes.append((ImageEnhance.Color, _SATURATION))
        for enhance, slot in changes:
            image = enhance(image).enhance(1 + self.config.jitter * (2 * self.draws[slot] - 1))
        return image


def resize_of(config: ImagesConfig) -> Resize | None:
    """Return the resizing of a configuration; None keeps the size of each image."""
    return None if config.size is None else Resize(size=config.size, fit=config.fit, filter=config.filter)
