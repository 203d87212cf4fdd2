"""Properties of the data that determine the sizes of a model's networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Properties of the data that a model depends on. A new kind of data adds its own, with a default."""

    event_shape: tuple[int, ...]
    """Shape of one example, without the batch dimension."""
    condition_dim: int = 0
    """Size of the condition vector; 0 for none."""
    num_levels: int | None = None
    """Number of values of a pixel, if the model reads discrete pixels; None for other numbers."""
    condition_columns: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """First and last column + 1 of each field of the condition, by name."""
    num_tokens: int | None = None
    """Size of the vocabulary, if examples are token IDs."""
    column_widths: tuple[int, ...] | None = None
    """Per column of a table: 1 for a number, otherwise its number of categories; None for other data."""
    likelihood_shape: tuple[int, ...] | None = None
    """Shape of the decoder's output for one example, if it differs from the event's."""

    @property
    def event_numel(self) -> int:
        """Number of values of one example."""
        return math.prod(self.event_shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example."""
        return self.event_shape if self.likelihood_shape is None else self.likelihood_shape
