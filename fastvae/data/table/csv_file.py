"""The cells of a table file (CSV and TSV, Parquet, Arrow, Excel): names, texts, and their lines."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastvae.data.files.delimited import fields_of, find_delimiter, open_text
from fastvae.data.table.cells import Reading, as_number, is_missing, local_number
from fastvae.data.table.frames import ARROW, EXCEL, PARQUET, FrameColumn, read_arrow, read_excel, read_frame
from fastvae.data.table.schema import SchemaColumn

Values = NDArray[np.float64] | NDArray[np.str_]  # a column: NaN, or an empty text, where a value is missing

_INDEX_NAMES = ("", "unnamed: 0")  # how pandas writes an index


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The columns of a file, in its order, before their types are inferred."""

    columns: dict[str, Values]
    """Texts, empty if missing, or numbers."""
    readings: dict[str, Reading] = field(default_factory=dict)
    """Readings of columns that are stored as numbers."""
    lines: Sequence[int] | None = None
    """The first line of each row in the file; None: rows are counted."""
    delimiter: str = ","
    """Delimiter of the fields."""
    excluded: tuple[SchemaColumn, ...] = ()
    """Columns that are not data."""
    dropped: tuple[str, ...] = ()
    """Ignored columns of a file that is read by columns."""
    categorical: tuple[str, ...] = ()
    """Columns with a categorical type in a DataFrame."""

    def where(self, row: int) -> str:
        """Position of a row in its file, for messages."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


def read_cells(path: Path, max_bytes: float, ignored: Collection[str] = ()) -> Cells:
    """The cells of a CSV, TSV, Parquet, Arrow or Excel file.

    Args:
        path: the file.
        max_bytes: largest allowed size of its texts.
        ignored: columns that are not read.

    Raises:
        ValueError: a damaged file, one without a header or rows; the message names the line or column.
        ModuleNotFoundError: the package that reads such files is missing.
    """
    suffix = path.suffix.lower()
    if suffix in (*PARQUET, *ARROW):
        return _arrow_cells(path, max_bytes, *read_arrow(path, max_bytes, ignored))
    if suffix in EXCEL:
        rows, note = read_excel(path)
        first = next((number for number, row in enumerate(rows) if any(row)), 0)
        names = rows[first] if rows else []
        cells = _from_rows(path, names, enumerate(rows[first + 1 :], start=first + 2), "\t", max_bytes, ragged=True)
        excluded = (*cells.excluded, SchemaColumn(name="(sheets)", part="excluded", note=note)) if note else ()
        return Cells(columns=cells.columns, lines=cells.lines, excluded=excluded or cells.excluded)
    with open_text(path) as file:
        delimiter, _ = find_delimiter(file)
        fields = fields_of(file, path)
        _, names = next(fields, (1, []))
        return _from_rows(path, names, fields, delimiter, max_bytes)


def frame_cells(frame: Any, path: Path, max_bytes: float, ignored: Collection[str] = ()) -> Cells:
    """The cells of a DataFrame or an Arrow table; see `read_frame`.

    Args:
        frame: the table.
        path: its name for error messages.
        max_bytes: the most bytes that its texts may take.
        ignored: columns that are not read.
    """
    found, dropped, categorical = read_frame(frame, path, ignored)
    return replace(_arrow_cells(path, max_bytes, found, dropped), categorical=categorical)


def _arrow_cells(path: Path, max_bytes: float, found: Mapping[str, FrameColumn], dropped: tuple[str, ...]) -> Cells:
    columns: dict[str, Values] = {}
    readings = {}
    for name, (values, reading) in found.items():
        columns[name] = _texts(path, name, values, max_bytes) if isinstance(values, list) else values
        if reading is not None:
            readings[name] = reading
    if not columns or not len(next(iter(columns.values()))):
        raise ValueError(f"{path}: contains no rows")
    index = [name for name in columns if name.startswith("__index_level_")]
    excluded = tuple(_index_column(name) for name in index)
    return Cells(
        columns={name: column for name, column in columns.items() if name not in index},
        readings=readings,
        excluded=excluded,
        dropped=dropped,
    )


def _from_rows(
    path: Path,
    header: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str]]],
    delimiter: str,
    max_bytes: float,
    *,
    ragged: bool = False,
) -> Cells:
    """The columns of rows of texts; rows of a sheet may be shorter: missing cells at their end are empty."""
    names = [name.strip() for name in header]
    lines, cells, num_bytes = array("q"), [], 0
    for line, row in rows:
        if not row or (ragged and not any(row)):
            continue
        if len(row) != len(names) and not ragged:
            raise ValueError(
                f"{path}: line {line} has {len(row)} values, the first line names {len(names)}"
                + ("; is a name missing for the row numbers in front?" if len(row) == len(names) + 1 else "")
            )
        num_bytes += sum(map(len, row))
        if num_bytes > max_bytes:
            raise ValueError(f"{path}: more than {max_bytes / 2**30:.2f} GiB of text (--data.max-gib)")
        lines.append(line)
        cells.append(row)
    columns = [[row[place].strip() for row in cells] for place in range(len(names))]
    _check_names(path, names, columns)
    if not cells:
        raise ValueError(f"{path}: contains a header but no rows")
    excluded = [place for place, name in enumerate(names) if name.lower() in _INDEX_NAMES]
    index = [place for place in excluded if any(columns[place])]
    for place in index:
        if not _is_index(columns[place]):
            raise ValueError(f"{path}: column {place + 1} has no name; name it in the first line")
    return Cells(
        columns={
            name: _texts(path, name, columns[place], max_bytes)
            for place, name in enumerate(names)
            if place not in excluded
        },
        lines=lines,
        delimiter=delimiter,
        excluded=tuple(_index_column(names[place] or "(no name)") for place in index),
    )


def _check_names(path: Path, names: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
    """ValueError unless the first line has a name for each column, once, and is not a data row."""
    shown = ", ".join(names[:8])
    if not any(names):
        raise ValueError(f"{path}: the first line must name each column once, got nothing")
    if all(as_number(name) is not None for name in names) or _is_row(names, columns):
        raise ValueError(
            f"{path}: the first line must name each column, got what looks like a row, {shown}; put a line of names"
            " above it"
        )
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: the first line must name each column once, got {twice[0]!r} twice in {shown}")
    for place, name in enumerate(names[1:], start=2):
        if not name and any(columns[place - 1]):
            raise ValueError(
                f"{path}: the first line must name each column once, got none for column {place}; name it there"
            )


def _is_row(names: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is a data row: names that are values of their column, or damaged numbers."""
    pairs = [(name, column) for name, column in zip(names, columns, strict=True) if name and any(column)]
    are_numbers = [_is_local(name) and all(_is_local(text) or is_missing(text) for text in col) for name, col in pairs]
    are_values = [name in column for name, column in pairs]
    if all(number or value for number, value in zip(are_numbers, are_values, strict=True)) and pairs:
        return True
    return any(
        number and (value or not name.isdecimal())
        for (name, _), number, value in zip(pairs, are_numbers, are_values, strict=True)
    )


def _is_local(text: str) -> bool:
    return as_number(text) is not None or any(local_number(text, mark) is not None for mark in ".,")


def _is_index(texts: Sequence[str]) -> bool:
    """Whether a column without a name numbers the rows: whole numbers, each once."""
    return all(text.isdecimal() for text in texts) and len(set(texts)) == len(texts)


def _index_column(name: str) -> SchemaColumn:
    return SchemaColumn(name=name, part="excluded", note="it numbers the rows")


def _texts(path: Path, name: str, texts: list[str], max_bytes: float) -> NDArray[np.str_]:
    cleaned = ["" if is_missing(text) else text for text in texts]
    longest = max(map(len, cleaned), default=0)
    if 4 * longest * len(cleaned) > max_bytes:
        raise ValueError(
            f"{path}: column {name} has texts of up to {longest:,} letters and would take more than"
            f" {max_bytes / 2**30:.2f} GiB (--data.max-gib); name it in --data.table.ignore"
        )
    return np.array(cleaned, dtype=np.str_)
