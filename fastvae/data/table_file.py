"""Reading tables: CSV, TSV and npz files become columns of numbers and of texts, and maybe labels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from fastvae.data.config import TableConfig
from fastvae.data.delimited import fields_of
from fastvae.data.table import Column, RawTable, Values, as_number, as_texts

_LABELS = ("label", "anomaly", "is_anomaly", "outlier", "is_outlier", "y")
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_EXAMPLES = ("X", "x", "data")
# What NumPy and zipfile raise on damaged archives.
_NPZ_ERRORS = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)


def is_table_file(path: Path) -> bool:
    """Whether it is a CSV file, or a TSV file whose second line has two numbers: one may be a sentence's label."""
    if path.suffix not in (".csv", ".tsv") or not path.is_file():
        return False
    if path.suffix == ".csv":
        return True
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = fields_of(file)
        next(rows, None)
        return sum(as_number(text) is not None for text in next(rows, [])) >= 2


def read_table(path: Path, config: TableConfig, columns: Sequence[Column] = ()) -> RawTable:
    """The columns of a CSV or TSV file with a header, or of an npz file with X [N, D] and maybe y [N].

    Args:
        path: the file.
        config: which columns are the label and categories.
        columns: those of a finished run. They then say what is a category, and the file may lack any of them, and
            the label too.

    Raises:
        ValueError: not such a file; the message names the line, the column or the array.
    """
    if path.suffix == ".npy":
        raise ValueError(f"{path}: must be a CSV, TSV or npz file; write it with numpy.savez(FILE, X=array)")
    cells = _read_npz(path, config) if path.suffix == ".npz" else _read_csv(path)
    known = {column.name: column for column in columns}
    label = _find_label(path, cells, config, known)
    labels = None if label is None else _labels(path, label, cells.pop(label), may_lack=bool(known))
    categorical = {column.name for column in columns if column.categories is not None} if known else config.categorical
    for name in () if known else config.categorical:
        _require(path, name, cells)
    if not cells:
        raise ValueError(f"{path}: no column is left beside the label")
    values = {name: as_texts(cell) if name in categorical else _numbers(cell) for name, cell in cells.items()}
    return RawTable(values, labels)


def _find_label(
    path: Path, cells: Mapping[str, Values], config: TableConfig, known: Mapping[str, Column]
) -> str | None:
    """The label's column: the one that is named, else one of the usual name that can be nothing else."""
    if config.label is not None:
        if not known:
            _require(path, config.label, cells)
        return config.label if config.label in cells else None
    if not config.find_label:
        return None
    usual = (name for name in cells if name.lower() in _LABELS and name not in known)
    return next((name for name in usual if path.suffix == ".npz" or _marks(cells[name])), None)


def _require(path: Path, name: str, cells: Mapping[str, Values]) -> None:
    if name not in cells:
        raise ValueError(f"{path}: no column is named {name!r}; there are {', '.join(list(cells)[:12])}")


def _marks(values: Values) -> bool:
    numbers = _numbers(values)
    return numbers.dtype.kind == "f" and bool((np.isin(numbers, (0.0, 1.0)) | np.isnan(_floats(numbers))).all())


def _labels(path: Path, name: str, values: Values, *, may_lack: bool) -> NDArray[np.int64] | None:
    """0 and 1; None for a column without a value, and for one with gaps where labels may lack."""
    if not _marks(values):
        wrong = next(text for text in as_texts(values).tolist() if not _marks(np.array([text])))
        raise ValueError(
            f"{path}: column {name} marks anomalies and must hold 0 and 1 only, got {wrong}; if it is no label, set"
            " --data.table.label to another column or --data.table.no-find-label"
        )
    numbers = _floats(_numbers(values))
    empty = np.flatnonzero(np.isnan(numbers))
    if not len(empty):
        return numbers.astype(np.int64)
    if may_lack or len(empty) == len(numbers):
        return None
    raise ValueError(
        f"{path}: column {name} marks anomalies and must hold 0 or 1 in every row, got nothing in row {empty[0] + 1};"
        " fill it or drop the column"
    )


def _read_npz(path: Path, config: TableConfig) -> dict[str, Values]:
    try:
        with path.open("rb") as file, _archive(file) as arrays:
            name = next((name for name in _EXAMPLES if name in arrays), None)
            if name is None or arrays[name].ndim != 2 or not arrays[name].size:
                found = ", ".join(f"{each} {list(arrays[each].shape)}" for each in arrays)
                raise ValueError(f"must hold X [N, D] with N and D at least 1, got {found or 'no arrays'}")
            rows = _array_of_floats(name, arrays[name])
            columns: dict[str, Values] = {f"x{place}": column for place, column in enumerate(rows.T)}
            if "y" in arrays and (config.label is not None or config.find_label):
                columns["y"] = _array_of_floats("y", arrays["y"]).reshape(-1)
                if len(columns["y"]) != len(rows):
                    raise ValueError(
                        f"y must have one label for each of {len(rows)} rows, got shape {list(arrays['y'].shape)}"
                    )
    except _NPZ_ERRORS as error:
        raise ValueError(f"{path}: not a table: {error}") from None
    return columns


def _archive(file: IO[bytes]) -> NpzFile:
    if not zipfile.is_zipfile(file):
        raise ValueError("must be an archive that numpy.savez wrote")
    file.seek(0)
    archive: NpzFile = np.load(file, allow_pickle=False)
    return archive


def _array_of_floats(name: str, array: NDArray[np.generic]) -> NDArray[np.float64]:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    return array.astype(np.float64)


def _read_csv(path: Path) -> dict[str, Values]:
    """Each column's texts as they are written, empty where a value is missing."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = fields_of(file)
        names = [name.strip() for name in next(rows, [])]
        if len(set(names)) < len(names) or not all(names) or all(as_number(name) is not None for name in names):
            raise ValueError(f"{path}: the first line must name each column once, got {', '.join(names[:8])}")
        cells: list[list[str]] = []
        for line, row in enumerate(rows, start=2):
            if row and len(row) != len(names):
                raise ValueError(f"{path}: line {line} has {len(row)} values, the first line names {len(names)}")
            if row:
                cells.append(row)
    if not cells:
        raise ValueError(f"{path}: holds a header and no rows")
    return {name: _texts([row[place].strip() for row in cells]) for place, name in enumerate(names)}


def _texts(texts: list[str]) -> NDArray[np.str_]:
    return np.array(["" if text.lower() in _MISSING else text for text in texts], dtype=np.str_)


def _numbers(values: Values) -> Values:
    """A column of nothing but numbers and gaps as floats; any other as it is."""
    if values.dtype.kind != "U":
        return values
    numbers = [np.nan if text == "" else as_number(text) for text in values.tolist()]
    return values if any(number is None for number in numbers) else np.array(numbers, dtype=np.float64)


def _floats(values: Values) -> NDArray[np.float64]:
    return values.astype(np.float64)
