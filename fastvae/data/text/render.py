"""Sentences as text files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fastvae.data.dataset import Data
from fastvae.data.text.sentences import tokenizer_of


class TextRenderer:
    """Token ids: one sentence per line, below a title."""

    suffix = ".txt"

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """Write sentences [N, T], one per line."""
        _write(path, [f"# {title}", *_sentences(examples, data)])

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Write each sentence [N, T] followed by its reconstruction."""
        lines = [f"# {title}: each sentence is followed by its reconstruction"]
        for original, made in zip(_sentences(originals, data), _sentences(reconstructions, data), strict=True):
            lines += ["", original, f"-> {made}"]
        _write(path, lines)

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """R groups of S sentences each, [R, S, T], with their names."""
        lines = [f"# {title}"]
        for name, row in zip(names, rows, strict=True):
            lines += ["", *([f"{name}:"] if name else []), *_sentences(row, data)]
        _write(path, lines)


def _sentences(ids: Tensor, data: Data) -> list[str]:
    return tokenizer_of(data).decode(ids.tolist())


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
