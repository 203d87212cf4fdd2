"""What a model must know of its data: the facts that shape its networks. Data state them, models read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """What a model must know of its data. A new kind of data adds the fact that its networks need, with a default."""

    event_shape: tuple[int, ...]
    """Shape of one example, without the batch."""
    condition_dim: int = 0
    """Numbers in an example's condition; 0 for none."""
    num_levels: int | None = None
    """How many values a pixel can take, where the model reads pixels as they are; None for other numbers."""
    condition_columns: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """First and last column + 1 of each field of the condition, by name."""
    num_tokens: int | None = None
    """Size of the vocabulary, where examples are token ids."""
    column_widths: tuple[int, ...] | None = None
    """Of each column of a table: 1 for a number, otherwise how many categories it has; None for other data."""
    likelihood_shape: tuple[int, ...] | None = None
    """Shape of the decoder's output for one example, where the likelihood wants another than the event's."""

    @property
    def event_numel(self) -> int:
        """Numbers in one example."""
        return math.prod(self.event_shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example."""
        return self.event_shape if self.likelihood_shape is None else self.likelihood_shape
