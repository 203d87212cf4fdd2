"""The label column of a table, which marks anomalies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastvae.data.table.cells import PLAIN, Reading, as_number, numbers_of
from fastvae.data.table.config import TableConfig
from fastvae.data.table.csv_file import Values

_NAMES = ("label", "anomaly", "is_anomaly", "outlier", "is_outlier", "y")
_MAY_BE_A_FEATURE = "y"  # if it contains numbers with more than two values


def find_label(
    path: Path,
    columns: Mapping[str, Values],
    config: TableConfig,
    known: Collection[str],
    where: Callable[[int], str],
) -> str | None:
    """Find the label column: the named one, else one with a usual name that marks anomalies.

    Raises:
        ValueError: it does not exist; or, in a new run, one with a usual name has values other than 0 and 1.
    """
    if config.label is not None:
        if config.label not in columns and not known:
            raise ValueError(f"{path}: no column is named {config.label!r}; there are {', '.join(list(columns)[:12])}")
        return config.label if config.label in columns else None
    if not config.find_label:
        return None
    usual = [name for name in columns if name.lower() in _NAMES and name not in {*known, *config.categorical}]
    marking = [name for name in usual if path.suffix.lower() == ".npz" or config.anomaly or _marks(columns[name])]
    if not marking and not known:
        for name in usual:
            if not _is_feature(name, columns[name]):
                labels_of(path, name, columns[name], config, where)
    return marking[0] if marking else None


def labels_of(
    path: Path,
    name: str,
    values: Values,
    config: TableConfig,
    where: Callable[[int], str],
    *,
    may_lack: bool = False,
) -> NDArray[np.int64] | None:
    """Return 0 or 1 of each row; None for an empty column, or one with gaps if labels are optional.

    Raises:
        ValueError: other values, or gaps that are not allowed; the message has the first.
    """
    numbers = _marked(values, config.anomaly) if config.anomaly else _numbers(values)
    wrong = None if isinstance(numbers, int) else next(iter(np.flatnonzero(~_are_marks(numbers))), None)
    odd = numbers if isinstance(numbers, int) else wrong
    if odd is not None:
        value = _spelled(values[odd])
        raise ValueError(
            f"{path}: column {name}, {where(int(odd))}: marks anomalies and must contain 0 and 1 only, got {value}; "
            "if it"
            " is not a label, set --data.table.no-find-label or --data.table.label to another column; if it is one, say"
            f" which values mark anomalies, such as --data.table.anomaly={value}"
        )
    assert not isinstance(numbers, int)
    empty = np.flatnonzero(np.isnan(numbers))
    if not len(empty):
        if config.anomaly and not may_lack and not numbers.any():
            found = ", ".join(sorted({_spelled(value) for value in values[:1000]})[:8])
            raise ValueError(f"{path}: column {name} holds {found}, and none of anomaly={', '.join(config.anomaly)}")
        return numbers.astype(np.int64)
    if may_lack or len(empty) == len(numbers):
        return None
    raise ValueError(
        f"{path}: column {name} marks anomalies and must contain 0 or 1 in every row, got nothing in"
        f" {where(int(empty[0]))}; fill it or drop the column"
    )


def _marks(values: Values) -> bool:
    numbers = _numbers(values)
    return not isinstance(numbers, int) and bool(_are_marks(numbers).all())


def _are_marks(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    marks: NDArray[np.bool_] = np.isin(numbers, (0.0, 1.0)) | np.isnan(numbers)
    return marks


def _numbers(values: Values) -> NDArray[np.float64] | int:
    """0 and 1, or True and False, as numbers; else the index of the first value that is neither."""
    if values.dtype.kind != "U":
        return values.astype(np.float64)
    texts = values.tolist()
    numbers = numbers_of(texts, PLAIN)
    truths = numbers_of(texts, Reading(kind="truth"))
    return numbers if isinstance(truths, int) else truths


def _marked(values: Values, anomaly: Collection[str]) -> NDArray[np.float64]:
    numbers = {as_number(text) for text in anomaly} - {None}
    texts = [_spelled(value) for value in values.tolist()]
    is_marked = [text in anomaly or (as_number(text) is not None and as_number(text) in numbers) for text in texts]
    return np.where([text == "" for text in texts], np.nan, np.array(is_marked, dtype=np.float64))


def _is_feature(name: str, values: Values) -> bool:
    numbers = _numbers(values)
    several = not isinstance(numbers, int) and len(np.unique(numbers[~np.isnan(numbers)])) > 2
    return name.lower() == _MAY_BE_A_FEATURE and several


def _spelled(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return "" if np.isnan(number) else f"{number:g}"
