"""The support of a likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TOLERANCE = 1e-5  # of a level, in units of the distance between two: the rounding of level / (levels - 1) in float32


@dataclass(frozen=True, kw_only=True)
class Support:
    """A set of numbers: an interval, its whole numbers, or evenly spaced levels."""

    low: float = -math.inf
    """Smallest number."""
    high: float = math.inf
    """Largest number."""
    is_whole: bool = False
    """Whether it contains whole numbers only."""
    levels: int | None = None
    """Number of evenly spaced levels from low to high; None: all numbers."""
    is_density: bool = False
    """Whether the likelihood is a density, which has no bits per dimension for discrete data."""

    @property
    def description(self) -> str:
        """Description of the set in error messages."""
        if self.levels is not None:
            return f"one of the {self.levels} levels from {self.low:g} to {self.high:g}"
        kind = "whole number" if self.is_whole else "number"
        if self.high == math.inf:
            return f"a {kind} of at least {self.low:g}"
        return f"a {kind} in [{self.low:g}, {self.high:g}]"

    @property
    def is_everything(self) -> bool:
        """Whether it contains all numbers."""
        return not self.is_whole and self.levels is None and math.isinf(self.low) and math.isinf(self.high)

    def outside(self, values: Tensor) -> Tensor:
        """Return which numbers are not in the set, bool in the shape of the values; NaN never is."""
        wrong = ~((values >= self.low) & (values <= self.high))
        if self.is_whole:
            wrong |= values != values.round()
        if self.levels is not None:
            places = (values.double() - self.low) * ((self.levels - 1) / (self.high - self.low))
            wrong |= (places - places.round()).abs() > _TOLERANCE * self.levels
        return torch.as_tensor(wrong)
