"""Rows of a table as CSV, in its original units and categories."""

from __future__ import annotations

from torch import Tensor

from fastvae.data.dataset import Data
from fastvae.data.pixels.numbers import NumberRenderer
from fastvae.data.table.columns import TABLE_FILE, columns_from_bytes


class TableRenderer(NumberRenderer):
    """Rows of a table: CSV, one row per line."""

    def texts(self, examples: Tensor, data: Data) -> tuple[list[str], list[list[str]]]:
        """Return the names of the columns and the values of each row [N, P] in original units and categories."""
        columns = columns_from_bytes(data.state[TABLE_FILE])
        parts = examples.split([column.width for column in columns], dim=1)
        decoded = [column.decode(part.numpy()) for column, part in zip(columns, parts, strict=True)]
        return [column.name for column in columns], [list(row) for row in zip(*decoded, strict=True)]
