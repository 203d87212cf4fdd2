"""Tables of numbers and categories: numbers are scaled robustly, categories are one-hot, missing values are masked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.source import Source, check_labels
from fastvae.data.table.cells import PLAIN, Reading, as_number
from fastvae.data.table.config import TableConfig
from fastvae.data.table.csv_file import Values
from fastvae.data.table.schema import SchemaColumn
from fastvae.records import Batch

__all__ = [
    "TABLE_FILE",
    "Column",
    "MaskGaps",
    "RawTable",
    "TableConfig",
    "TableSource",
    "Values",
    "as_texts",
    "columns_from_bytes",
    "columns_to_bytes",
    "learn_column",
]

TABLE_FILE = "columns.json"  # in a run's data folder
_OTHER = "(other)"  # a category that the training rows do not have
_SPREAD = (0.01, 0.99)
_NORMAL_SPREAD = 4.6527  # between those quantiles of a standard normal


@dataclass(frozen=True)
class RawTable:
    """A table as read: columns of floats (NaN where a value is missing) or of texts (empty where missing)."""

    columns: Mapping[str, Values]
    labels: NDArray[np.int64] | None
    numbers: NDArray[np.int64] | None = None  # [N] row numbers in their file, from 1; None: all rows of the file
    readings: Mapping[str, Reading] = field(default_factory=dict)  # how the texts of a column were parsed as numbers
    ids: NDArray[np.str_] | None = None  # [N] names of the rows
    excluded: tuple[SchemaColumn, ...] = ()  # columns of the file that are not inputs

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, indices: NDArray[np.int64]) -> RawTable:
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[indices]
        columns = {name: column[indices] for name, column in self.columns.items()}
        ids = None if self.ids is None else self.ids[indices]
        return replace(self, columns=columns, labels=labels, numbers=self.row_numbers()[indices], ids=ids)

    def row_numbers(self) -> NDArray[np.int64]:
        """Row numbers in their file [N]: 1 is the first below the header."""
        return np.arange(1, len(self) + 1) if self.numbers is None else self.numbers


@dataclass(frozen=True)
class Column:
    """Encoding of one column as numbers that a model reads; fitted to the training rows."""

    name: str
    center: float = 0.0
    scale: float = 1.0
    categories: tuple[str, ...] | None = None  # None for a number
    reading: Reading = PLAIN  # how its texts are parsed as numbers

    @property
    def width(self) -> int:
        """Number of elements in the model's row."""
        return 1 if self.categories is None else len(self.categories)

    def encode(self, values: Values, clip: float) -> NDArray[np.float32]:
        """[N, width]: scaled, or one-hot; NaN where a value is missing."""
        if self.categories is None:
            with np.errstate(over="ignore"):  # what overflows is clipped
                scaled = (values.astype(np.float64) - self.center) / self.scale
            return np.clip(scaled, -clip, clip).astype(np.float32)[:, None]
        distinct, inverse = np.unique(values, return_inverse=True)
        codes = np.array([self._place(text) for text in distinct.tolist()])[inverse]
        encoded = np.zeros((len(values), self.width), dtype=np.float32)
        encoded[np.arange(len(values)), codes] = 1.0
        encoded[values == ""] = np.nan
        return encoded

    def decode(self, encoded: NDArray[np.float32]) -> list[str]:
        """The inverse of ``encode``, as texts; for probabilities [N, width], the most probable category."""
        if self.categories is None:
            numbers = encoded[:, 0].astype(np.float64) * self.scale + self.center
            return ["" if math.isnan(number) else self.reading.spell(number) for number in numbers.tolist()]
        best = np.nan_to_num(encoded, nan=-1.0).argmax(1)
        missing = np.isnan(encoded[:, 0]).tolist()
        return ["" if gap else self.categories[place] for gap, place in zip(missing, best.tolist(), strict=True)]

    def _place(self, text: str) -> int:
        """Return the index of the category with the same text, else of the only one that is the same number."""
        assert self.categories is not None
        if text in self.categories:
            return self.categories.index(text)
        number = as_number(text)
        if number is None:
            return self.categories.index(_OTHER)
        alike = [place for place, known in enumerate(self.categories) if as_number(known) == number]
        return alike[0] if len(alike) == 1 else self.categories.index(_OTHER)


def learn_column(name: str, values: Values, reading: Reading = PLAIN) -> Column:
    """Fit the column's scaling, which is robust to outliers, or its categories.

    For a number, the centre is the median, and the scale is the distance between the 1 % and the 99 % quantiles
    relative to a standard normal's. If most values are equal and this is 0, the standard deviation is used.

    Raises:
        ValueError: the numbers are infinite, or so large that they have no finite scale.
    """
    if values.dtype.kind == "U":
        return Column(name, categories=(*sorted(set(values.tolist()) - {"", _OTHER}), _OTHER))
    present = values[~np.isnan(values.astype(np.float64))].astype(np.float64)
    if not len(present):
        return Column(name, reading=reading)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow leaves no finite scale, which is refused
        low, high = np.quantile(present, _SPREAD)
        center, deviation = float(np.median(present)), float(present.std())
        scale = float(high - low) / _NORMAL_SPREAD
    if not scale > 1e-6 * deviation:
        scale = deviation
    if not (math.isfinite(center) and math.isfinite(scale)):
        raise ValueError(
            f"column {name}: numbers must have a finite scale, got {present.min():g} .. {present.max():g}; leave such"
            " values empty, or give the column in a larger unit"
        )
    return Column(name, center, scale if scale > 0 else 1.0, reading=reading)


def columns_to_bytes(columns: Sequence[Column]) -> bytes:
    """Return JSON, which is stored in a run."""
    return json.dumps([asdict(column) for column in columns], ensure_ascii=False).encode()


def columns_from_bytes(content: bytes) -> tuple[Column, ...]:
    """Read the result of `columns_to_bytes`.

    Raises:
        ValueError: it is not valid.
    """
    try:
        return tuple(
            Column(
                str(fields["name"]),
                float(fields["center"]),
                float(fields["scale"]),
                None if fields["categories"] is None else tuple(map(str, fields["categories"])),
                Reading(**fields.get("reading", {})),
            )
            for fields in json.loads(content)
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{TABLE_FILE} of the run does not describe its columns ({error!r}); was it edited?") from None


class TableSource(Source):
    """Rows of a table as a model reads them, float32 [P]: NaN where a value is missing.

    Args:
        table: the rows.
        columns: how its columns are encoded; a column that is not in the table is missing in every row.
        clip: see `TableConfig.clip`.
        name: name in error messages.

    Raises:
        ValueError: no rows, none of the columns, or words where numbers are expected.
    """

    def __init__(self, table: RawTable, columns: Sequence[Column], clip: float, *, name: str = "table") -> None:
        if not any(column.name in table.columns for column in columns):
            raise ValueError(
                f"{name}: must have the columns {', '.join(column.name for column in columns[:8])}, got"
                f" {', '.join(list(table.columns)[:8])}"
            )
        parts = [_encoded(column, table, clip, name) for column in columns]
        self._rows = torch.from_numpy(np.concatenate(parts, axis=1))
        self._numbers = torch.from_numpy(table.row_numbers())
        self.ids = table.ids
        labels = None if table.labels is None else torch.from_numpy(table.labels)
        self._labels = None if labels is None else check_labels(labels, len(self._rows), name)
        self.event_shape, self.dtype, self.levels = (self._rows.shape[1],), torch.float32, None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._rows.index_select(0, indices)

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], or None."""
        return self._labels

    def attribute(self, name: str) -> Tensor | None:
        """The labels under "label", and under "row" each row's number in its file, from 1."""
        return self._numbers if name == "row" else super().attribute(name)


@dataclass(frozen=True)
class MaskGaps:
    """Preprocessing of rows: missing values are 0 (the median, or no category) and masked in the target."""

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """The batch of raw rows [B, P]; no noise is used."""
        is_missing = raw.isnan()
        x = raw.masked_fill(is_missing, 0.0)
        # On a device, checking for missing values would synchronise, so there is always a mask.
        is_whole = raw.device.type == "cpu" and not bool(is_missing.any())
        mask = None if is_whole else ~is_missing
        return Batch(x=x, target=x, mask=mask, rows=indices.to(raw.device))

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """None: bits are not defined for a density of scaled measurements."""
        return None

    def mean(self, raw: Tensor) -> Tensor | None:
        """None: scaled columns start at their median, which is 0."""
        return None


def _encoded(column: Column, table: RawTable, clip: float, name: str) -> NDArray[np.float32]:
    values = table.columns.get(column.name)
    if values is None:
        return np.full((len(table), column.width), np.nan, dtype=np.float32)
    if column.categories is None and values.dtype.kind == "U":
        word = next(value for value in values.tolist() if value and as_number(value) is None)
        raise ValueError(f"{name}: column {column.name} must hold numbers, as in training, got {word!r}")
    return column.encode(values if column.categories is None else as_texts(values), clip)


def as_texts(values: Values) -> NDArray[np.str_]:
    """Convert numbers to categories: whole ones without a point; empty if missing. Texts are unchanged."""
    if values.dtype.kind == "U":
        return values.astype(np.str_)
    return np.array(["" if math.isnan(value) else _spelled(value) for value in values.tolist()], dtype=np.str_)


def _spelled(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
