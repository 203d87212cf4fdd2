"""Reading tables: CSV, TSV, Parquet, Arrow, Excel and npz files as columns of numbers and texts, with optional
labels.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from fastvae.data.files.delimited import fields_of, open_text, text_suffix
from fastvae.data.table.cells import PLAIN, Reading, as_number, numbers_of
from fastvae.data.table.columns import Column, RawTable, TableConfig, Values, as_texts
from fastvae.data.table.csv_file import Cells, frame_cells, read_cells
from fastvae.data.table.frames import ARROW, EXCEL, PARQUET
from fastvae.data.table.infer import Notation, Texts, infer_columns
from fastvae.data.table.labels import find_label, labels_of
from fastvae.data.table.schema import SchemaColumn

_EXAMPLES = ("X", "x", "data")
# What NumPy and zipfile raise on damaged archives.
_NPZ_ERRORS = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)


def is_table_file(path: Path) -> bool:
    """Whether it is a CSV, Parquet, Arrow or Excel file, or a TSV file whose second line has two numbers.

    A single number may be the label of a sentence.
    """
    if not path.is_file():
        return False
    suffix = text_suffix(path)
    if suffix != ".tsv":
        return suffix == ".csv" or path.suffix.lower() in (*PARQUET, *ARROW, *EXCEL)
    with open_text(path, errors="replace") as file:
        rows = fields_of(file, path)
        next(rows, None)
        _, second = next(rows, (2, []))
        return sum(as_number(text) is not None for text in second) >= 2


def read_table(
    path: Path, config: TableConfig, columns: Sequence[Column] = (), *, max_bytes: float = math.inf
) -> RawTable:
    """Read the columns of a CSV, TSV, Parquet, Arrow or Excel file with a header, or of an npz file with X [N, D],
    maybe y.

    Args:
        path: the file.
        config: roles of the columns, and the notation if it is ambiguous in the file.
        columns: columns of a finished run. They then determine the categories, and the file may omit any of them, and
            the label too.
        max_bytes: largest allowed size of the texts.

    Raises:
        ValueError: not such a file; the message names the line, the column or the array.
        ModuleNotFoundError: the package that reads such files is missing.
    """
    if path.suffix.lower() == ".npy":
        raise ValueError(f"{path}: must be a CSV, TSV or npz file; write it with numpy.savez(FILE, X=array)")
    is_npz = path.suffix.lower() == ".npz"
    cells = _read_npz(path, config) if is_npz else read_cells(path, max_bytes, config.ignore)
    return _table_of(path, cells, config, columns)


def read_frame_table(
    frame: Any, name: str, config: TableConfig, columns: Sequence[Column] = (), *, max_bytes: float = math.inf
) -> RawTable:
    """The columns of a DataFrame of pandas or polars or of an Arrow table, as `read_table` reads those of a file.

    Args:
        frame: the table.
        name: how error messages call it.
        config, columns, max_bytes: as for `read_table`.

    Raises:
        ValueError: as `read_table`.
        ModuleNotFoundError: pyarrow is missing.
    """
    path = Path(name)
    return _table_of(path, frame_cells(frame, path, max_bytes, config.ignore), config, columns)


def _table_of(path: Path, cells: Cells, config: TableConfig, columns: Sequence[Column]) -> RawTable:
    known = {column.name: column for column in columns}
    left = dict(cells.columns)
    taken = list(cells.excluded)
    if not known:
        _check_named(path, config, left, cells)
    for name in set(config.ignore) & set(left):
        del left[name]
    taken += [SchemaColumn(name=name, part="excluded", note="as asked") for name in config.ignore if not known]
    ids = left.pop(config.id, None) if config.id is not None else None
    if ids is not None:
        taken.append(SchemaColumn(name=str(config.id), part="id"))
    label = find_label(path, left, config, known, cells.where)
    labels = None
    if label is not None:
        labels = labels_of(path, label, values := left.pop(label), config, cells.where, may_lack=bool(known))
        taken.append(_label_column(label, labels, values, config))
    if not left:
        raise ValueError(f"{path}: no column is left besides the label")
    values_of, readings = _understood(path, left, cells, config, known)
    return RawTable(
        values_of,
        labels,
        readings=readings,
        ids=None if ids is None else as_texts(ids),
        excluded=tuple(taken),
    )


def _check_named(path: Path, config: TableConfig, columns: Mapping[str, Values], cells: Cells) -> None:
    """ValueError unless every column in the configuration exists."""
    there = {*columns, *cells.dropped, *(column.name for column in cells.excluded)}
    for name in (*config.categorical, *config.ignore, *([config.id] if config.id is not None else [])):
        if name not in there:
            raise ValueError(f"{path}: no column is named {name!r}; there are {', '.join(list(columns)[:12])}")


def _label_column(name: str, labels: NDArray[np.int64] | None, values: Values, config: TableConfig) -> SchemaColumn:
    if labels is None:
        return SchemaColumn(name=name, part="label", note="without values")
    marks = f"{', '.join(config.anomaly)} as 1" if config.anomaly else "0 and 1"
    return SchemaColumn(name=name, part="label", type=marks, note=f"{int(labels.sum()):,} of {len(labels):,} are 1")


def _understood(
    path: Path, columns: Mapping[str, Values], cells: Cells, config: TableConfig, known: Mapping[str, Column]
) -> tuple[dict[str, Values], dict[str, Reading]]:
    """Return each column's values and readings: as the run's column of that name, or inferred."""
    if known:
        categorical = {name for name, column in known.items() if column.categories is not None}
    else:
        categorical = {*config.categorical, *cells.categorical}
    notation = Notation(
        name=str(path),
        delimiter=cells.delimiter,
        decimal=config.decimal,
        dates=config.dates,
        where=cells.where,
        is_new=not known,
    )
    values: dict[str, Values] = {}
    readings: dict[str, Reading] = {}
    open_columns: dict[str, Texts] = {}
    for name, column in columns.items():
        if name in categorical:
            values[name] = as_texts(column)
        elif column.dtype.kind != "U":
            values[name], readings[name] = column, cells.readings.get(name, PLAIN)
        elif name in known and not isinstance(numbers := numbers_of(column.tolist(), known[name].reading), int):
            values[name], readings[name] = numbers, known[name].reading
        else:
            open_columns[name] = column.astype(np.str_)
    for name, (found, reading) in infer_columns(open_columns, notation).items():
        values[name] = found
        readings[name] = reading
        if name in known:
            _check_alike(known[name], found, reading, notation)
    return {name: values[name] for name in columns}, readings


def _check_alike(column: Column, values: Values, reading: Reading, notation: Notation) -> None:
    """ValueError if a run's column of numbers contains words, or another kind of number."""
    where = f"{notation.name}: column {column.name}"
    if values.dtype.kind == "U":
        row = next(row for row, text in enumerate(values.tolist()) if text and column.reading.number(text) is None)
        raise ValueError(
            f"{where} must hold numbers, as in training, got {str(values[row])[:60]!r} in {notation.where(row)}"
        )
    old, new = (each.kind if each.kind in ("date", "time") else "number" for each in (column.reading, reading))
    if old != new:
        raise ValueError(f"{where} must hold {column.reading.description}, as in training, got {reading.description}")


def _read_npz(path: Path, config: TableConfig) -> Cells:
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
    return Cells(columns=columns)


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
