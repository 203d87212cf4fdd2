"""The order in which the pixels of an image are coded or drawn: diagonal by diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Window:
    """The neighbours of a pixel that its distribution depends on, all of them before it in raster order."""

    above: int = 3
    """Rows above the pixel."""
    left: int = 3
    """Columns to the left, in the pixel's own row and in the rows above."""
    right: int = 2
    """Columns to the right in the rows above."""

    def __post_init__(self) -> None:
        if min(self.above, self.left) < 1 or self.right < 0:
            raise ValueError(
                "Window: above and left must be at least 1 and right at least 0,"
                f" got {self.above}, {self.left} and {self.right}"
            )

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Row and column of each neighbour relative to the pixel."""
        rows = [(-row, column) for row in range(1, self.above + 1) for column in range(-self.left, self.right + 1)]
        return [*rows, *((0, -column) for column in range(1, self.left + 1))]

    def neighbours(self, height: int, width: int) -> Tensor:
        """Index of each neighbour of each pixel in the flattened image, int64 [neighbours, H W].

        A neighbour outside of the image is replaced by the nearest one in it: in the first row by the pixel to the
        left, in the first column by the pixel above. The first pixel has none, and its indices are H W.
        """
        grid = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        row, column = (each.flatten() for each in grid)
        indices = []
        for down, across in self.offsets:
            is_in_own_row = (row == 0) | (column > 0 if down == 0 else torch.zeros_like(row, dtype=torch.bool))
            other_row = torch.where(is_in_own_row, row, (row + min(down, -1)).clamp(min=0))
            other_column = (column + across).clamp(0, width - 1)
            to_the_left = (column + (across if down == 0 else -1)).clamp(min=0)
            indices.append(other_row * width + torch.where(is_in_own_row, to_the_left, other_column))
        return torch.stack(indices).masked_fill((row == 0) & (column == 0), height * width)

    def diagonals(self, height: int, width: int) -> list[Tensor]:
        """Indices of the pixels in the order of coding: those of one entry do not depend on each other.

        The pixel in row i and column j is in entry ``j + (right + 1) i`` (Zhang et al. 2021, arXiv 2104.12416: sheared
        images), of ``width + (right + 1) (height - 1)`` entries.
        """
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        time = (column + (self.right + 1) * row).flatten()
        return [(time == each).nonzero().squeeze(1) for each in range(int(time.max()) + 1)]
