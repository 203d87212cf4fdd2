"""Settings of tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class TableConfig(Settings):
    """Settings of a table of numbers and categories."""

    label: str | None = None
    """Column that marks the rows that are anomalies (1) and those that are not (0); None searches for a column with a
    usual name and no other values. It is never an input of the model."""
    find_label: bool = True
    """Whether to search for the label column if it is not named; if False, such a column is an ordinary input."""
    anomaly: tuple[str, ...] = ()
    """Values of the label that mark an anomaly, if not 1; all other values mark normal rows."""
    id: str | None = None
    """Column with the name of each row; it is not an input of the model."""
    ignore: tuple[str, ...] = ()
    """Columns to exclude."""
    categorical: tuple[str, ...] = ()
    """Columns of numbers to treat as categories; columns with values other than numbers are always categories."""
    max_categories: int = setting(256, advanced=True)
    """Largest allowed number of categories of a column."""
    decimal: Literal["auto", "point", "comma"] = "auto"
    """Decimal mark, if the file does not show whether 1,234 means 1234 or 1.234."""
    dates: Literal["auto", "day-first", "month-first"] = "auto"
    """Order of day and month, if the file does not show it."""
    test_share: float = 0.3
    """Fraction of the rows that is held out for the test, stratified by label, in (0, 1)."""
    trim: float = setting(0.0, advanced=True)
    """Fraction of the training rows that are left out of training, those that are the farthest from the others, in
    [0, 0.5]: they may be anomalies. Anomaly scores are compared with those of all training rows."""
    clip: float = setting(30.0, advanced=True)
    """Clip scaled numbers to plus and minus this many standard deviations."""

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1 or not self.clip > 0:
            raise ValueError(
                f"TableConfig: test_share must be in (0, 1) and clip positive, got {self.test_share} and {self.clip}"
            )
        if not 0 <= self.trim <= 0.5:
            raise ValueError(f"TableConfig: trim must be in [0, 0.5], got {self.trim}")
        if self.max_categories < 2:
            raise ValueError(f"TableConfig: max_categories must be at least 2, got {self.max_categories}")
        parts = [*self.ignore, *self.categorical, *filter(None, (self.label, self.id))]
        twice = next((name for name in parts if parts.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"TableConfig: a column is one of label, id, ignore and categorical, got {twice!r} more than once"
            )
