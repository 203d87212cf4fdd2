"""Examples without a picture: their numbers, or a table's columns in its own units and words, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data import Data
from fastvae.data.table.columns import TABLE_FILE, columns_from_bytes


class NumberRenderer:
    """Plain numbers: CSV, one example a line."""

    suffix = ".csv"

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """One line for each example."""
        _write(path, [], [], examples, data)

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Two lines for each example; the first column says which is which."""
        both = torch.stack((originals, reconstructions), dim=1).flatten(0, 1)
        _write(path, ["of"], ["data", "model"] * len(originals), both, data)

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """One line for each example of each row; the first column is the row's name."""
        _write(path, ["row"], [name for name in names for _ in range(rows.shape[1])], rows.flatten(0, 1), data)


def _write(path: Path, header: list[str], names: Sequence[str], examples: Tensor, data: Data) -> None:
    columns, values = _as_texts(examples.flatten(1).float().cpu(), data)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *columns])
        for row, texts in enumerate(values):
            writer.writerow([*([names[row]] if names else []), *texts])


def _as_texts(examples: Tensor, data: Data) -> tuple[list[str], list[list[str]]]:
    """The columns' names, and of each example [N, P] its values: those of a table in its own units and words."""
    if TABLE_FILE not in data.state:
        numbers = [[f"{number:.6g}" for number in example] for example in examples.tolist()]
        return [f"x{place}" for place in range(examples.shape[1])], numbers
    columns = columns_from_bytes(data.state[TABLE_FILE])
    parts = examples.split([column.width for column in columns], dim=1)
    decoded = [column.decode(part.numpy()) for column, part in zip(columns, parts, strict=True)]
    return [column.name for column in columns], [list(row) for row in zip(*decoded, strict=True)]
