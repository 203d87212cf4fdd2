"""The inferred schema of a table: each column's name, part, type, range or categories, and gaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

SCHEMA_FILE = "schema.json"  # in a run's data folder
_SHOWN_COLUMNS = 24
_SHOWN_CATEGORIES = 6


@dataclass(frozen=True, kw_only=True)
class SchemaColumn:
    """One column of a table in the schema."""

    name: str
    """Its name in the file."""
    part: str
    """input, label, id, or excluded."""
    type: str = ""
    """Type, such as number, date or categories."""
    low: str = ""
    """Smallest value of a number."""
    high: str = ""
    """The largest."""
    categories: tuple[str, ...] = ()
    """Values of a category."""
    missing: int = 0
    """Number of rows without a value."""
    note: str = ""
    """Further notes, such as why it was omitted."""

    def line(self, width: int) -> str:
        """Describe the column on one line; ``width`` is that of the names."""
        parts = [f"{self.part}, {self.type}" if self.type else self.part]
        if self.low:
            parts.append(f"{self.low} .. {self.high}")
        if self.categories:
            shown = ", ".join(" ".join(name.split())[:24] for name in self.categories[:_SHOWN_CATEGORIES])
            parts[-1] = f"{self.part}, {len(self.categories)} categories"
            parts.append(shown + (", ..." if len(self.categories) > _SHOWN_CATEGORIES else ""))
        parts += [f"{self.missing:,} missing"] if self.missing else []
        parts += [self.note] if self.note else []
        return f"  {self.name:{width}}  {'; '.join(parts)}"


def schema_lines(name: str, num_rows: int, columns: Sequence[SchemaColumn]) -> tuple[str, ...]:
    """Return the schema as it is printed by training."""
    shown = columns[:_SHOWN_COLUMNS]
    width = max((len(column.name) for column in shown), default=0)
    more = len(columns) - len(shown)
    return (
        f"{name}: {num_rows:,} rows, {len(columns)} columns, read as",
        *(column.line(width) for column in shown),
        *([f"  ... and {more} more columns, in data/{SCHEMA_FILE} of the run"] if more else []),
    )


def schema_to_bytes(columns: Sequence[SchemaColumn]) -> bytes:
    """Return JSON, which is stored in a run."""
    return (json.dumps([asdict(column) for column in columns], indent=1, ensure_ascii=False) + "\n").encode()
