"""Images that are decoded from their files when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data.files.image_files import Header, read_pixels
from fastvae.data.files.image_transforms import Transform
from fastvae.data.files.reading import reading
from fastvae.data.pixels.augment import Augmentation
from fastvae.data.pixels.config import ImagesConfig
from fastvae.data.source import Draws, Source


class ImageFiles(Source):
    """Images in files, uint8 ``[N, C, H, W]``; each is decoded when it is needed.

    Args:
        paths: the files.
        headers: their headers.
        config: how they are resized and transformed.
        event_shape: ``(C, H, W)`` of every example; C is 1 if all images are grey, else 3.
        labels: int64 ``[N]``, or None.
    """

    in_memory = False
    is_decoded = True
    dtype = torch.uint8
    levels = 256

    def __init__(
        self,
        paths: Sequence[Path],
        headers: Sequence[Header],
        *,
        config: ImagesConfig,
        event_shape: tuple[int, ...],
        labels: Tensor | None,
    ) -> None:
        self._paths, self._headers, self._labels = paths, headers, labels
        self._transforms, self.event_shape = Augmentation(config), event_shape
        self.is_random = self._transforms.is_random

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._stacked(indices, [self._transforms.plain] * len(indices))

    def drawn(self, indices: Tensor, draws: Draws) -> Tensor:
        return self._stacked(indices, self._transforms.draw(indices, draws))

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``: the sub-folder of each image; None if images are not in sub-folders."""
        return self._labels

    def _stacked(self, indices: Tensor, transforms: Sequence[Transform | None]) -> Tensor:
        images = torch.empty((len(indices), *self.event_shape), dtype=torch.uint8)
        for image, index, transform in zip(images, indices.tolist(), transforms, strict=True):
            path = self._paths[index]
            reading(str(path))
            pixels = read_pixels(
                path,
                self._headers[index],
                is_grey=self.event_shape[0] == 1,
                background=self._transforms.background,
                transform=transform,
            )
            image.copy_(pixels)
        return images
