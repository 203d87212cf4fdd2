"""Plain numbers as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data.dataset import Data


class NumberRenderer:
    """Plain numbers: CSV, one example per line."""

    suffix = ".csv"

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """One line for each example."""
        self._write(path, [], [], examples, data)

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Two lines for each example; the first column distinguishes them."""
        both = torch.stack((originals, reconstructions), dim=1).flatten(0, 1)
        self._write(path, ["of"], ["data", "model"] * len(originals), both, data)

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """One line for each example of each row; the first column is the row's name."""
        self._write(path, ["row"], [name for name in names for _ in range(rows.shape[1])], rows.flatten(0, 1), data)

    def texts(self, examples: Tensor, data: Data) -> tuple[list[str], list[list[str]]]:
        """Return the names of the columns and the values of each example [N, P] as text."""
        numbers = [[f"{number:.6g}" for number in example] for example in examples.tolist()]
        return [f"x{place}" for place in range(examples.shape[1])], numbers

    def _write(self, path: Path, header: list[str], names: Sequence[str], examples: Tensor, data: Data) -> None:
        columns, values = self.texts(examples.flatten(1).float().cpu(), data)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*header, *columns])
            for row, texts in enumerate(values):
                writer.writerow([*([names[row]] if names else []), *texts])
