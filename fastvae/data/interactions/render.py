"""Recommendations as text: ranked titles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data.dataset import Data
from fastvae.data.interactions.catalogue import CATALOGUE_FILE, Catalogue

_TOP = 10  # number of titles per example


class ItemRenderer:
    """The most probable items, one title per line."""

    suffix = ".txt"

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """Write the best titles of each example, probabilities [N, V]."""
        titles = _titles(data)
        _write(path, title, ((f"example {row}", _ranked(scores, titles)) for row, scores in enumerate(examples)))

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Each user's own items, counts [N, V], sparse or dense, and the best titles of the model's output."""
        titles = _titles(data)
        crow, columns = _rows(originals)
        parts: list[tuple[str, list[str]]] = []
        for row, scores in enumerate(reconstructions):
            own = [titles[item] for item in columns[crow[row] : crow[row + 1]].tolist()]
            more = [f"  and {len(own) - _TOP} more"] if len(own) > _TOP else []
            parts += [
                (f"user {row} has", [*(f"  {name}" for name in own[:_TOP]), *more]),
                (f"user {row}, the model's answer", _ranked(scores, titles)),
            ]
        _write(path, title, parts)

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """The best titles of each of R x S examples [R, S, V], with the names of the rows."""
        titles = _titles(data)
        parts = (
            (f"{name}, step {step}", _ranked(scores, titles))
            for name, row in zip(names, rows, strict=True)
            for step, scores in enumerate(row)
        )
        _write(path, title, parts)


def _titles(data: Data) -> tuple[str, ...]:
    return Catalogue.from_bytes(data.state[CATALOGUE_FILE]).titles


def _ranked(scores: Tensor, titles: Sequence[str]) -> list[str]:
    best = torch.sort(scores, descending=True, stable=True).indices[:_TOP].tolist()
    return [f"  {float(scores[item]):.4f}  {titles[item]}" for item in best]


def _rows(counts: Tensor) -> tuple[Tensor, Tensor]:
    if counts.layout == torch.sparse_csr:
        return counts.crow_indices(), counts.col_indices()
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), (counts != 0).sum(1).cumsum(0).cpu()])
    return crow, counts.nonzero()[:, 1]


def _write(path: Path, title: str, parts: Iterable[tuple[str, list[str]]]) -> None:
    text = [title, *("\n".join([f"\n{name}", *lines]) for name, lines in parts)]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
