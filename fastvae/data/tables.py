"""Tables by name and by path: reading CSV and npz, and the split into training and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets

from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.delimited import fields_of
from fastvae.data.order import order_index
from fastvae.data.restore import MissingSource
from fastvae.data.source import Source
from fastvae.data.table import (
    TABLE_FILE,
    Column,
    MaskGaps,
    RawTable,
    TableConfig,
    TableSource,
    Values,
    as_texts,
    columns_from_bytes,
    columns_to_bytes,
    learn_column,
)

_LABELS = ("label", "anomaly", "is_anomaly", "outlier", "is_outlier", "y")
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_EXAMPLES = ("X", "x", "data")


def load_table(config: DataConfig, seed: int, state: State) -> Data:
    """A CSV, TSV or npz file of measurements, some of them maybe marked as anomalies."""
    if config.path is None:
        raise ValueError("data.name=table: needs --data.path, a CSV, TSV or npz file of numbers")
    path = config.path.expanduser()
    if not path.is_file() and TABLE_FILE in state:
        return _kept(config, state, f"{path}: the table of this run is gone")
    return split_table(read_table(path, config.table), config.table, seed=seed, state=state, name=path.stem)


def load_breast_cancer(config: DataConfig, seed: int, state: State) -> Data:
    """scikit-learn's breast cancer data as an anomaly table: 357 benign rows and, as anomalies, 21 malignant ones."""
    bunch = datasets.load_breast_cancer()
    benign, malignant = (np.flatnonzero(bunch.target == target) for target in (1, 0))
    rows = np.concatenate([benign, malignant[:21]])
    columns = {str(name): bunch.data[rows, place] for place, name in enumerate(bunch.feature_names)}
    labels = (bunch.target[rows] == 0).astype(np.int64)
    return split_table(RawTable(columns, labels), config.table, seed=seed, state=state, name=config.name)


def read_rows(path: Path, config: DataConfig, state: State) -> TableSource:
    """Every row of a file in its order, encoded as a run's rows are."""
    columns = columns_from_bytes(state[TABLE_FILE])
    return TableSource(read_table(path, config.table), columns, config.table.clip, name=str(path))


def is_table_file(path: Path) -> bool:
    """Whether a CSV file's second line has a number, or a TSV file's two: one may be the label of a sentence."""
    if path.suffix not in (".csv", ".tsv") or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = fields_of(file)
        next(rows, None)
        return sum(_as_number(text) is not None for text in next(rows, [])) >= (1 if path.suffix == ".csv" else 2)


def split_table(table: RawTable, config: TableConfig, *, seed: int, state: State, name: str) -> Data:
    """Training and test rows of a table, its columns learned from the training rows alone, or from what a run kept.

    Each label gives the same share of its rows to the test; which ones is a function of the seed.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(table) < 2:
        raise ValueError(f"{name}: at least two rows must be there, got {len(table)}")
    train, test = (table.rows(rows) for rows in _split(table, config.test_share, seed))
    return table_data(train, test, config, state=state, name=name)


def table_data(
    train: RawTable, test: RawTable, config: TableConfig, *, state: State | None = None, name: str = "table"
) -> Data:
    """The data of training and test rows that are apart already; see `split_table`."""
    if state and TABLE_FILE in state:
        columns = columns_from_bytes(state[TABLE_FILE])
    else:
        columns = tuple(learn_column(column, values) for column, values in train.columns.items())
    sources = [TableSource(part, columns, config.clip, name=name) for part in (train, test)]
    return _data(name, sources[0], sources[1], columns)


def read_table(path: Path, config: TableConfig) -> RawTable:
    """The columns of a CSV or TSV file with a header, or of an npz file with X [N, D] and maybe y [N].

    Raises:
        ValueError: not such a file; the message names the line or the array.
    """
    columns = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    label = config.label or next((name for name in columns if name.lower() in _LABELS), None)
    if label is not None and label not in columns:
        raise ValueError(f"{path}: no column is named {label!r}; there are {', '.join(list(columns)[:12])}")
    labels = None if label is None else _labels(path, label, columns.pop(label))
    for name in config.categorical:
        if name not in columns:
            raise ValueError(f"{path}: no column is named {name!r}; there are {', '.join(list(columns)[:12])}")
        columns[name] = as_texts(columns[name])
    if not columns:
        raise ValueError(f"{path}: no column is left beside the label")
    return RawTable(columns, labels)


def _data(name: str, train: Source, test: Source, columns: Sequence[Column]) -> Data:
    return Data(
        name=name,
        train=train,
        test=test,
        preprocess=MaskGaps(),
        kind="table",
        label_names=("normal", "anomaly"),
        inputs={"column_widths": tuple(column.width for column in columns)},
        state={TABLE_FILE: columns_to_bytes(columns)},
    )


def _split(table: RawTable, test_share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    labels = np.zeros(len(table), dtype=np.int64) if table.labels is None else table.labels
    train, test = [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[order_index(np.arange(len(rows)), len(rows), seed)]
        num_test = min(max(round(test_share * len(rows)), 1), len(rows) - 1) if len(rows) > 1 else 0
        test.append(rows[:num_test])
        train.append(rows[num_test:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _read_npz(path: Path) -> dict[str, Values]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            name = next((name for name in _EXAMPLES if name in arrays), None)
            if name is None or arrays[name].ndim != 2:
                raise ValueError(f"must hold X [N, D], got {', '.join(arrays) or 'no arrays'}")
            columns: dict[str, Values] = {
                f"x{place}": column for place, column in enumerate(arrays[name].astype(np.float64).T)
            }
            if "y" in arrays:
                columns["y"] = arrays["y"].reshape(-1).astype(np.float64)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not a table: {error}") from None
    return columns


def _read_csv(path: Path) -> dict[str, Values]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = fields_of(file)
        names = [name.strip() for name in next(rows, [])]
        if len(set(names)) < len(names) or not all(names) or all(_as_number(name) is not None for name in names):
            raise ValueError(f"{path}: the first line must name each column once, got {', '.join(names[:8])}")
        cells: list[list[str]] = []
        for line, row in enumerate(rows, start=2):
            if row and len(row) != len(names):
                raise ValueError(f"{path}: line {line} has {len(row)} values, the first line names {len(names)}")
            if row:
                cells.append(row)
    if not cells:
        raise ValueError(f"{path}: holds a header and no rows")
    return {name: _column([row[place].strip() for row in cells]) for place, name in enumerate(names)}


def _column(texts: list[str]) -> Values:
    numbers = [np.nan if text.lower() in _MISSING else _as_number(text) for text in texts]
    if all(number is not None for number in numbers):
        return np.array(numbers, dtype=np.float64)
    return np.array(["" if text.lower() in _MISSING else text for text in texts], dtype=np.str_)


def _labels(path: Path, name: str, values: Values) -> NDArray[np.int64]:
    if values.dtype.kind == "U" or not np.isin(values.astype(np.float64), (0.0, 1.0)).all():
        raise ValueError(f"{path}: column {name} marks anomalies and must hold 0 and 1 only")
    return values.astype(np.int64)


def _kept(config: DataConfig, state: State, reason: str) -> Data:
    columns = columns_from_bytes(state[TABLE_FILE])
    nothing = MissingSource((sum(column.width for column in columns),), torch.float32, None, reason)
    return _data("table", nothing, nothing, columns)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
