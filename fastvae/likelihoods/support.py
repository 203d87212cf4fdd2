"""The values that a likelihood gives a probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TOLERANCE = 1e-5  # of a level, in units of the distance between two: what float32 leaves of level / (levels - 1)


@dataclass(frozen=True, kw_only=True)
class Support:
    """A set of numbers: an interval, maybe only its whole numbers, or only some evenly spaced levels."""

    low: float = -math.inf
    """The smallest number."""
    high: float = math.inf
    """The largest number."""
    is_whole: bool = False
    """Whether only whole numbers belong to it."""
    levels: int | None = None
    """How many evenly spaced numbers from low to high belong to it; None: all."""
    is_density: bool = False
    """Whether the likelihood is a density: of discrete data it has no bits per dimension as they are."""

    @property
    def words(self) -> str:
        """The set as an error message has it."""
        if self.levels is not None:
            return f"one of the {self.levels} levels from {self.low:g} to {self.high:g}"
        kind = "whole number" if self.is_whole else "number"
        if self.high == math.inf:
            return f"a {kind} of at least {self.low:g}"
        return f"a {kind} in [{self.low:g}, {self.high:g}]"

    @property
    def is_everything(self) -> bool:
        """Whether no number is outside."""
        return not self.is_whole and self.levels is None and math.isinf(self.low) and math.isinf(self.high)

    def outside(self, values: Tensor) -> Tensor:
        """Where numbers are not in the set, bool, the shape of the values; NaN is in no set."""
        wrong = ~((values >= self.low) & (values <= self.high))
        if self.is_whole:
            wrong |= values != values.round()
        if self.levels is not None:
            places = (values.double() - self.low) * ((self.levels - 1) / (self.high - self.low))
            wrong |= (places - places.round()).abs() > _TOLERANCE * self.levels
        return torch.as_tensor(wrong)
