"""Examples without a picture: their numbers, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from fastvae.data import Data


class NumberRenderer:
    """Plain numbers: CSV, one example a line."""

    suffix = ".csv"

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """One line for each example."""
        _write(path, [], ([], examples))

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Two lines for each example; the first column says which is which."""
        both = [part for pair in zip(originals, reconstructions, strict=True) for part in pair]
        _write(path, ["of"], (["data", "model"] * len(originals), both))

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """One line for each example of each row; the first column is the row's name."""
        _write(path, ["row"], ([name for name in names for _ in range(rows.shape[1])], rows.flatten(0, 1)))


def _write(path: Path, header: list[str], content: tuple[Sequence[str], Iterable[Tensor]]) -> None:
    names, examples = content
    values = [example.flatten().tolist() for example in examples]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *(f"x{column}" for column in range(len(values[0]) if values else 0))])
        for row, numbers in enumerate(values):
            writer.writerow([*([names[row]] if names else []), *(f"{number:.6g}" for number in numbers)])
