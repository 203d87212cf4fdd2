"""Tables in Parquet, Arrow and Excel files and in DataFrames, through pyarrow and openpyxl."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastvae.data.table.cells import PLAIN, Reading

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
EXCEL = (".xlsx", ".xlsm")

FrameColumn = tuple[NDArray[np.float64] | list[str], Reading | None]  # texts have no reading yet


def read_arrow(
    path: Path, max_bytes: float, ignored: Collection[str] = ()
) -> tuple[dict[str, FrameColumn], tuple[str, ...]]:
    """The columns of a Parquet, Arrow or Feather file, and the names of its ignored columns.

    Raises:
        ValueError: a damaged file, or a column that holds no numbers, texts, truth values or dates.
        ModuleNotFoundError: pyarrow is missing.
    """
    arrow = _pyarrow(path, f"{path.suffix[1:].capitalize()} files")
    try:
        reader = arrow.parquet if path.suffix.lower() in PARQUET else arrow.feather
        table = reader.read_table(path)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a {path.suffix[1:]} file, or a damaged one ({_one_line(error)})") from None
    if table.nbytes > max_bytes:
        raise ValueError(
            f"{path}: {table.nbytes / 2**30:.2f} GiB are more than {max_bytes / 2**30:.2f} (--data.max-gib)"
        )
    return _columns_of(arrow, path, table, ignored)


def read_frame(
    frame: Any, path: Path, ignored: Collection[str] = ()
) -> tuple[dict[str, FrameColumn], tuple[str, ...], tuple[str, ...]]:
    """The columns of a DataFrame of pandas or polars or of an Arrow table, as those of a Parquet file.

    The index of a DataFrame of pandas is not a column.

    Returns:
        The columns, the names of those that are ignored, and the names of those whose type is that of categories.

    Raises:
        ValueError: a column that holds no numbers, texts, truth values or dates, or two columns of one name.
        ModuleNotFoundError: pyarrow is missing.
    """
    arrow = _pyarrow(path, "DataFrames")
    library = type(frame).__module__.split(".")[0]
    if library == "polars":
        table = frame.to_arrow()
    elif library == "pyarrow":
        table = frame
    else:
        names = [str(name) for name in frame.columns]
        try:
            table = arrow.Table.from_pandas(frame.set_axis(names, axis=1), preserve_index=False)
        except (arrow.ArrowException, ValueError, TypeError) as error:
            raise ValueError(f"{path}: a column must hold one type of values ({_one_line(error)})") from None
    fixed = [name for name, kind in zip(table.column_names, table.schema.types, strict=True) if _is_category(kind)]
    columns, dropped = _columns_of(arrow, path, table, ignored)
    return columns, dropped, tuple(name for name in fixed if name in columns)


def _is_category(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_dictionary(kind))


def _columns_of(
    arrow: Any, path: Path, table: Any, ignored: Collection[str]
) -> tuple[dict[str, FrameColumn], tuple[str, ...]]:
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError(f"{path}: must name each column once, got {', '.join(table.column_names[:8])}")
    columns = {
        name: _arrow_column(arrow, path, name, column)
        for name, column in zip(table.column_names, table.columns, strict=True)
        if name not in ignored
    }
    return columns, tuple(name for name in table.column_names if name in ignored)


def read_excel(path: Path) -> tuple[list[list[str]], str]:
    """The cells of a workbook's first sheet, as texts, and a note on its other sheets, if any.

    Raises:
        ValueError: it is not a workbook, or is damaged.
        ModuleNotFoundError: openpyxl is missing.
    """
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{path}: Excel files need openpyxl: pip install 'fastvae[tables]'") from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        rows = [[_excel_text(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        others = [other.title for other in book.worksheets[1:]]
        book.close()
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not an Excel workbook (.xlsx), or a damaged one ({_one_line(error)})") from None
    note = f"{path.name}: sheet {sheet.title!r} is read, not {', '.join(map(repr, others))}" if others else ""
    return rows, note


def _excel_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


def _pyarrow(path: Path, what: str) -> Any:
    try:
        import pyarrow
        import pyarrow.feather
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{path}: {what} need pyarrow: pip install 'fastvae[tables]'") from None
    return pyarrow


def _arrow_column(arrow: Any, path: Path, name: str, column: Any) -> FrameColumn:
    types, kind = arrow.types, column.type
    if types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return ["" if text is None else text for text in column.to_pylist()], None
    if types.is_null(kind):
        return np.full(len(column), np.nan), PLAIN
    if types.is_timestamp(kind) or types.is_date(kind):
        zone = "z" if types.is_timestamp(kind) and kind.tz is not None else ""
        seconds = column.cast(arrow.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(arrow.int64())
        return _floats(arrow, seconds) / 1e6, Reading(kind="date", order="ymd" + zone)
    if types.is_boolean(kind):
        return _floats(arrow, column.cast(arrow.int8())), Reading(kind="truth")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _floats(arrow, column), PLAIN
    raise ValueError(
        f"{path}: column {name} contains {kind}, which is not a number, text or date; name it in --data.table.ignore, "
        "or"
        " drop it"
    )


def _floats(arrow: Any, column: Any) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = column.cast(arrow.float64(), safe=False).to_numpy().astype(np.float64)
    return numbers


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
