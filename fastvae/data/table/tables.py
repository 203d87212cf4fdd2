"""Tables by name and by path, and their split into training and test rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.objects import is_array, is_frame, to_tensor
from fastvae.data.order import order_index
from fastvae.data.source import Source
from fastvae.data.table.cells import PLAIN
from fastvae.data.table.columns import (
    TABLE_FILE,
    Column,
    MaskGaps,
    RawTable,
    TableSource,
    Values,
    as_texts,
    columns_from_bytes,
    columns_to_bytes,
    learn_column,
)
from fastvae.data.table.config import TableConfig
from fastvae.data.table.covariance import without_distant
from fastvae.data.table.file import read_frame_table, read_table
from fastvae.data.table.schema import SCHEMA_FILE, SchemaColumn, schema_lines, schema_to_bytes
from fastvae.data.views import take
from fastvae.model_inputs import ModelInputs

_ID_NAME = re.compile(r"(?i:id|.*[_ ]id|uuid|guid|index|row)|.*[a-z]I[dD]")


def load_table(config: DataConfig, seed: int, state: State) -> Data:
    """A CSV, TSV or npz file of measurements, optionally with anomaly labels."""
    assert config.path is not None  # checked by build_data
    path = config.path.expanduser()
    max_bytes = config.max_bytes
    table = read_table(path, config.table, _kept(state), max_bytes=max_bytes)
    return split_table(table, config.table, seed=seed, state=state, name=path.stem, max_bytes=max_bytes)


def load_breast_cancer(config: DataConfig, seed: int, state: State) -> Data:
    """scikit-learn's breast cancer data as an anomaly table: 357 benign rows and, as anomalies, 21 malignant ones."""
    from sklearn import datasets  # imported here: it takes a second, and other data do not need it

    bunch = datasets.load_breast_cancer()
    benign, malignant = (np.flatnonzero(bunch.target == target) for target in (1, 0))
    rows = np.concatenate([benign, malignant[:21]])
    columns = {str(name): bunch.data[rows, place] for place, name in enumerate(bunch.feature_names)}
    labels = (bunch.target[rows] == 0).astype(np.int64)
    return split_table(RawTable(columns, labels, rows + 1), config.table, seed=seed, state=state, name=config.name)


def read_rows(path: Path, config: DataConfig, state: State) -> TableSource:
    """Every row of a file in its order, encoded as a run's rows are."""
    columns = _kept(state)
    max_bytes = config.max_bytes
    table = read_table(path, config.table, columns, max_bytes=max_bytes)
    check_size(len(table), columns, max_bytes, str(path))
    return TableSource(table, columns, config.table.clip, name=str(path))


def frame_data(
    train: Any, test: Any = None, *, config: TableConfig | None = None, seed: int = 0, name: str = "data"
) -> Data:
    """The data of a DataFrame of pandas or polars, or of an Arrow table, read as a table in a file is.

    Args:
        train: the rows.
        test: the test rows; without them, a share of ``train`` as for files.
        config: which columns are what.
        seed: of the split.
        name: how messages call the data.

    Raises:
        ValueError: as `read_table`.
        TypeError: one of the two is not a table.
    """
    config = config or TableConfig()
    if not is_frame(train) or not (test is None or is_frame(test)):
        wrong = train if not is_frame(train) else test
        raise TypeError(
            f"{name}: train and test must both be DataFrames, got {type(wrong).__name__}; a label is a column, named in"
            " as_data(frame, table=TableConfig(label=...))"
        )
    table = read_frame_table(train, name, config)
    if test is None:
        return split_table(table, config, seed=seed, state={}, name=name)
    columns = learn_columns(table, config, name)
    tested = read_frame_table(test, f"{name} (test)", config, columns)
    return described(table_data(table, tested, config, state={TABLE_FILE: columns_to_bytes(columns)}, name=name), table)


def read_rows_in_memory(rows: Any, name: str, config: DataConfig, data: Data) -> TableSource:
    """Rows of a DataFrame, encoded as a run's rows are; or of an array, for a run on an array's columns.

    Raises:
        ValueError: rows that are not like the run's.
        TypeError: not a table.
    """
    columns = _kept(data.state)
    if is_frame(rows):
        table = read_frame_table(rows, name, config.table, columns, max_bytes=config.max_bytes)
    else:
        table = _table_of_array(rows, name, columns)
    check_size(len(table), columns, config.max_bytes, name)
    return TableSource(table, columns, config.table.clip, name=name)


def _table_of_array(rows: Any, name: str, columns: Sequence[Column]) -> RawTable:
    names = [column.name for column in columns]
    if not (is_array(rows) or isinstance(rows, list)) or names != [f"x{place}" for place in range(len(names))]:
        raise TypeError(
            f"{name}: must be a DataFrame with the columns {', '.join(names[:8])}{', ...' if names[8:] else ''}, got"
            f" {type(rows).__name__}"
        )
    array = to_tensor(rows, name).double().numpy()
    if array.ndim != 2 or not len(array) or array.shape[1] != len(names):
        raise ValueError(f"{name}: must be [N, {len(names)}] as in training, got shape {list(array.shape)}")
    return RawTable(dict(zip(names, array.T, strict=True)), None)


def split_table(
    table: RawTable, config: TableConfig, *, seed: int, state: State, name: str, max_bytes: float = math.inf
) -> Data:
    """Training and test rows of a table, with columns fitted to the training rows, or from a run's state.

    The split is stratified by label and is a function of the seed.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(table) < 2:
        raise ValueError(f"{name}: at least two rows are required, got {len(table)}")
    train, test = (table.rows(rows) for rows in _split(table, config.test_share, seed))
    data = table_data(train, test, config, state=state, name=name, max_bytes=max_bytes)
    return data if TABLE_FILE in state else described(data, table)


def described(data: Data, table: RawTable) -> Data:
    """The data with the schema of the table that they were made of, which training prints and a run keeps."""
    schema = describe_table(table, columns_from_bytes(data.state[TABLE_FILE]))
    return replace(
        data,
        state={**data.state, SCHEMA_FILE: schema_to_bytes(schema)},
        notes=(*schema_lines(data.name, len(table), schema), *data.notes),
    )


def table_data(
    train: RawTable,
    test: RawTable,
    config: TableConfig,
    *,
    state: State | None = None,
    name: str = "table",
    max_bytes: float = math.inf,
) -> Data:
    """Build data from separate training and test rows; see `split_table`."""
    columns = _kept(state or {}) or learn_columns(train, config, name)
    check_size(len(train) + len(test), columns, max_bytes, name)
    sources = [TableSource(part, columns, config.clip, name=name) for part in (train, test)]
    data = _data(name, sources[0], sources[1], columns)
    return _trimmed(data, config.trim) if config.trim > 0 else data


def _trimmed(data: Data, share: float) -> Data:
    """The data without the most distant training rows."""
    assert data.inputs is not None  # see `_data`
    assert data.inputs.column_widths is not None
    kept = without_distant(data.train, data.inputs.column_widths, share)
    num, num_kept = len(data.train), len(kept)
    if num_kept == num:
        return data
    note = f"trim: {num - num_kept:,} of the {num:,} training rows, the farthest from the others, are not trained on"
    return replace(data, train=take(data.train, kept), untrimmed=data.train, notes=(*data.notes, note))


def check_size(num_rows: int, columns: Sequence[Column], max_bytes: float, name: str) -> None:
    """ValueError where the rows that a model reads would take more than ``max_bytes``."""
    num_bytes = 4 * num_rows * sum(column.width for column in columns)
    if num_bytes > max_bytes:
        widest = max(columns, key=lambda column: column.width)
        raise ValueError(
            f"{name}: {num_rows:,} rows become {num_bytes / 2**30:.2f} GiB, the limit is {max_bytes / 2**30:.2f}"
            f" (--data.max-gib); column {widest.name} alone has {widest.width} of the {num_bytes // (4 * num_rows)}"
            " elements of a row"
        )


def describe_table(table: RawTable, columns: Sequence[Column]) -> tuple[SchemaColumn, ...]:
    """Return the schema of each column of a table, including those that are not inputs."""
    return (*(_described(column, table) for column in columns if column.name in table.columns), *table.excluded)


def _described(column: Column, table: RawTable) -> SchemaColumn:
    values = table.columns[column.name]
    if column.categories is not None:
        texts = as_texts(values)
        names = tuple(sorted(set(texts.tolist()) - {""}))
        return SchemaColumn(
            name=column.name, part="input", type="categories", categories=names, missing=int((texts == "").sum())
        )
    present = values.astype(np.float64)[~np.isnan(values.astype(np.float64))]
    is_id = bool(_ID_NAME.fullmatch(column.name)) and len(np.unique(present)) == len(present) > 1
    note = f"is it an identifier? then exclude it with --data.table.id {column.name}" if is_id else ""
    return SchemaColumn(
        name=column.name,
        part="input",
        type=column.reading.description,
        low=column.reading.spell(present.min()) if len(present) else "",
        high=column.reading.spell(present.max()) if len(present) else "",
        missing=len(values) - len(present),
        note=note if len(present) else "holds nothing",
    )


def learn_columns(table: RawTable, config: TableConfig, where: str) -> tuple[Column, ...]:
    """How each column of the training rows becomes numbers.

    Raises:
        ValueError: a column has more categories than the configuration allows.
    """
    return tuple(_learned(name, values, table, config, where) for name, values in table.columns.items())


def _learned(name: str, values: Values, table: RawTable, config: TableConfig, where: str) -> Column:
    column = learn_column(name, values, table.readings.get(name, PLAIN))
    if column.categories is not None and column.width - 1 > config.max_categories:
        raise ValueError(
            f"{where}: column {name} has {column.width - 1:,} categories, the limit is {config.max_categories}; raise"
            " --data.table.max-categories, or name the column in --data.table.ignore"
        )
    return column


def _data(name: str, train: Source, test: Source, columns: Sequence[Column]) -> Data:
    return Data(
        name=name,
        train=train,
        test=test,
        preprocess=MaskGaps(),
        kind="table",
        label_names=("normal", "anomaly"),
        inputs=ModelInputs(event_shape=train.event_shape, column_widths=tuple(column.width for column in columns)),
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
    """Return the columns in a run's state; empty for a new run."""
    return columns_from_bytes(state[TABLE_FILE]) if TABLE_FILE in state else ()
