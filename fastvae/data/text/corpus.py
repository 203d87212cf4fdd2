"""A corpus of sentences and labels, read from a text file or a TSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TEXT_COLUMNS = ("sentence", "text", "content")
_LABEL_COLUMN = "label"


@dataclass(frozen=True)
class Corpus:
    """Sentences and their labels, if any, as in the file."""

    sentences: tuple[str, ...]
    labels: tuple[str, ...] | None = None

    def take(self, rows: Sequence[int]) -> Corpus:
        """Select rows."""
        labels = None if self.labels is None else tuple(self.labels[row] for row in rows)
        return Corpus(tuple(self.sentences[row] for row in rows), labels)


def read_sentences(path: Path, *, blank_lines: bool = True) -> Corpus:
    """The sentences of a text file, one per line, or of a TSV with a header; blank lines are skipped.

    Args:
        path: the file.
        blank_lines: whether they are allowed before the end.

    Raises:
        ValueError: no such file, not UTF-8, no sentences, or a TSV without the columns; the message names the line.
    """
    try:
        lines = (
            path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
        )  # splitlines would split at other characters too
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x} at {error.start}"
        ) from None
    first, corpus = (
        (2, _read_table(path, lines)) if path.suffix == ".tsv" else (1, Corpus(tuple(map(str.strip, lines))))
    )
    filled = [row for row, sentence in enumerate(corpus.sentences) if sentence]
    blank = next((row for row, sentence in enumerate(corpus.sentences) if not sentence), None)
    if blank is not None and filled and not blank_lines:
        raise ValueError(f"{path}, line {blank + first}: is blank; remove it, so that every line is an example")
    corpus = corpus.take(filled)
    if not corpus.sentences:
        raise ValueError(f"{path}: at least one sentence is required, one per line, got none")
    return corpus


def holds_sentences(path: Path) -> bool:
    """Whether a file is text, or a TSV whose header names a column of text."""
    if not path.is_file() or path.suffix not in (".txt", ".tsv"):
        return False
    if path.suffix == ".txt":
        return True
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return bool(set(file.readline().strip().split("\t")) & set(_TEXT_COLUMNS))


def _read_table(path: Path, lines: list[str]) -> Corpus:
    rows = (line.split("\t") for line in lines)
    header = next(rows)
    column = next((name for name in _TEXT_COLUMNS if name in header), None)
    if column is None:
        raise ValueError(
            f"{path}: its first line must name a column {' or '.join(_TEXT_COLUMNS)} (and label, if there are labels),"
            f" got {header[:5]}"
        )
    sentences, labels = [], []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: must have {len(header)} columns as the first line, got {len(row)}"
            )
        sentences.append(row[header.index(column)].strip())
        labels.append(row[header.index(_LABEL_COLUMN)].strip() if _LABEL_COLUMN in header else "")
    return Corpus(tuple(sentences), tuple(labels) if _LABEL_COLUMN in header else None)


def find_folder(directory: Path | None, names: Sequence[str], file: str) -> Path:
    """Find a data set's folder, in a directory or in FASTVAE_DATA.

    Args:
        directory: a folder that the user gave, or None.
        names: usual names of the data set's folder inside it.
        file: a file that the folder contains.

    Raises:
        ValueError: no such folder.
    """
    roots = [root for root in (directory, os.environ.get("FASTVAE_DATA")) if root]
    folders = [Path(root).expanduser() / name for root in roots for name in ("", *names)]
    for folder in folders:
        if (folder / file).is_file():
            return folder
    places = ", ".join(map(str, folders)) or "FASTVAE_DATA, which is not set"
    raise ValueError(f"sst2: {file} is in none of {places}; set --data.dir to the folder that holds it")
