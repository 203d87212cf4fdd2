"""Tables by name and by path, and their split into training and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastvae.data.config import DataConfig, TableConfig
from fastvae.data.dataset import Data, State
from fastvae.data.order import order_index
from fastvae.data.source import Source
from fastvae.data.table import (
    TABLE_FILE,
    Column,
    MaskGaps,
    RawTable,
    TableSource,
    columns_from_bytes,
    columns_to_bytes,
    learn_column,
)
from fastvae.data.table_file import read_table


def load_table(config: DataConfig, seed: int, state: State) -> Data:
    """A CSV, TSV or npz file of measurements, some of them maybe marked as anomalies."""
    assert config.path is not None  # DataConfig saw to it
    path = config.path.expanduser()
    table = read_table(path, config.table, _kept(state))
    return split_table(table, config.table, seed=seed, state=state, name=path.stem)


def load_breast_cancer(config: DataConfig, seed: int, state: State) -> Data:
    """scikit-learn's breast cancer data as an anomaly table: 357 benign rows and, as anomalies, 21 malignant ones."""
    from sklearn import datasets  # here: the import takes a second, and other data do not need it

    bunch = datasets.load_breast_cancer()
    benign, malignant = (np.flatnonzero(bunch.target == target) for target in (1, 0))
    rows = np.concatenate([benign, malignant[:21]])
    columns = {str(name): bunch.data[rows, place] for place, name in enumerate(bunch.feature_names)}
    labels = (bunch.target[rows] == 0).astype(np.int64)
    return split_table(RawTable(columns, labels, rows + 1), config.table, seed=seed, state=state, name=config.name)


def read_rows(path: Path, config: DataConfig, state: State) -> TableSource:
    """Every row of a file in its order, encoded as a run's rows are."""
    columns = _kept(state)
    return TableSource(read_table(path, config.table, columns), columns, config.table.clip, name=str(path))


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
    learned = _kept(state or {})
    columns = learned or tuple(learn_column(column, values) for column, values in train.columns.items())
    sources = [TableSource(part, columns, config.clip, name=name) for part in (train, test)]
    return _data(name, sources[0], sources[1], columns)


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


def _kept(state: State) -> tuple[Column, ...]:
    """The columns that a run kept; none where it begins."""
    return columns_from_bytes(state[TABLE_FILE]) if TABLE_FILE in state else ()
