"""How a table is read, as a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class TableConfig(Settings):
    """How a table of numbers and categories is read."""

    label: str | None = None
    """Column that says which rows are anomalies (1) and which are not (0); None finds one of the usual name that
    holds nothing else. It is never shown to the model."""
    find_label: bool = True
    """Whether a label that is not named is looked for; without, such a column is one like the others."""
    anomaly: tuple[str, ...] = ()
    """Values of the label that mark an anomaly, where they are not 1; all others mark none."""
    id: str | None = None
    """Column that names each row; it is no input of the model."""
    ignore: tuple[str, ...] = ()
    """Columns that are left out."""
    categorical: tuple[str, ...] = ()
    """Columns of numbers that are categories all the same; columns with other values than numbers are so anyway."""
    max_categories: int = 256
    """The most categories that a column may have."""
    decimal: Literal["auto", "point", "comma"] = "auto"
    """The decimal mark, where the file leaves in doubt whether 1,234 is a thousand or little more than 1."""
    dates: Literal["auto", "day-first", "month-first"] = "auto"
    """The order of day and month, where the file leaves it in doubt."""
    test_share: float = 0.3
    """Part of the rows that is held out for the test, the same part of each label, in (0, 1)."""
    clip: float = 30.0
    """Scaled numbers are held within plus and minus this many deviations."""

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1 or not self.clip > 0:
            raise ValueError(
                f"TableConfig: test_share must be in (0, 1) and clip positive, got {self.test_share} and {self.clip}"
            )
        if self.max_categories < 2:
            raise ValueError(f"TableConfig: max_categories must be at least 2, got {self.max_categories}")
        parts = [*self.ignore, *self.categorical, *filter(None, (self.label, self.id))]
        twice = next((name for name in parts if parts.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"TableConfig: a column is one of label, id, ignore and categorical, got {twice!r} more than once"
            )
