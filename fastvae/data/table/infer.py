"""Infer the type of each column of a table: numbers and their notation, dates, True and False, or categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastvae.data.files.dates import possible_orders, time_seconds
from fastvae.data.table.cells import (
    PLAIN,
    Reading,
    as_number,
    is_missing_number,
    local_number,
    numbers_of,
)

_NEARLY_ALL = 0.8  # fraction of a column's values above which the others are anomalous
_FEW = 20  # number of distinct texts that are always categories
_HINT = "or name it in --data.table.categorical or --data.table.ignore"

Texts = NDArray[np.str_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Notation:
    """Notation of numbers and dates, from a file and the settings."""

    name: str
    """Name of the file in error messages."""
    delimiter: str = ","
    """Delimiter of its fields."""
    decimal: str = "auto"
    """See `TableConfig.decimal`."""
    dates: str = "auto"
    """See `TableConfig.dates`."""
    where: Callable[[int], str] = lambda row: f"row {row + 1}"
    """Position of a row in the file, for messages."""
    is_new: bool = True
    """Whether this is a new run, in which a column of words must contain categories."""


def infer_columns(columns: Mapping[str, Texts], notation: Notation) -> dict[str, tuple[Numbers | Texts, Reading]]:
    """Return each column as numbers with their reading, or as texts.

    A column of numbers in the notation of programming languages is read as such. Otherwise the decimal mark is the one
    with which all values of the column are numbers; if both are possible, that of the file's other columns decides,
    then the delimiter.

    Raises:
        ValueError: a column is nearly all numbers, can be read in two ways, or holds another text in nearly every
            row; the message names its first anomalous line and the remedy.
    """
    found: dict[str, tuple[Numbers | Texts, Reading]] = {}
    undecided: dict[str, Texts] = {}
    marks: set[str] = set()  # decimal marks that are unambiguous in the file
    for name, texts in columns.items():
        numbers = numbers_of(texts.tolist(), PLAIN)
        if not isinstance(numbers, int):
            found[name] = numbers, PLAIN
            if any("." in text and local_number(text, ",") is None for text in texts.tolist()):
                marks.add(".")
            continue
        undecided[name] = texts
        marks |= _certain_marks(_present(texts))
    for name, texts in undecided.items():
        found[name] = _infer(name, texts, notation, marks)
    if "," in marks:
        _regroup(found, columns, notation, marks)
    return {name: found[name] for name in columns}


def _present(texts: Texts) -> list[str]:
    return [text for text in texts.tolist() if not is_missing_number(text)]


def _certain_marks(present: Sequence[str]) -> set[str]:
    """Return the decimal mark with which every value is a number, if it is unique."""
    possible = {mark for mark in ".," if all(local_number(text, mark) is not None for text in present)}
    return possible if present and len(possible) == 1 else set()


def _infer(name: str, texts: Texts, notation: Notation, marks: set[str]) -> tuple[Numbers | Texts, Reading]:
    present = _present(texts)
    if {text.lower() for text in present} <= {"true", "false"}:
        return _read(texts, Reading(kind="truth"))
    if all(time_seconds(text) is not None for text in present):
        return _read(texts, Reading(kind="time"))
    if orders := possible_orders(present):
        return _read(texts, Reading(kind="date", order=_order(name, texts, orders, notation)))
    possible = [mark for mark in ".," if all(local_number(text, mark) is not None for text in present)]
    if not possible:
        if notation.is_new:
            check_words(name, texts, notation)
        return texts, PLAIN
    mark = possible[0] if len(possible) == 1 else _choose_mark(name, texts, notation, marks)
    units = {text: found[1] for text in present if (found := local_number(text, mark)) is not None}
    first = units[present[0]]
    odd = next((text for text in present if units[text] != first), None)
    if odd is not None:
        raise ValueError(
            f"{place_of(name, texts, odd, notation)}, and {present[0]!r} above it: one column has one unit; write"
            f" all of its numbers alike, {_HINT}"
        )
    return _read(texts, Reading(kind="local", decimal=mark, unit=first))


def _read(texts: Texts, reading: Reading) -> tuple[Numbers, Reading]:
    numbers = numbers_of(texts.tolist(), reading)
    assert not isinstance(numbers, int)  # every text was checked
    return numbers, reading


def _choose_mark(name: str, texts: Texts, notation: Notation, marks: set[str]) -> str:
    """Return the decimal mark of an ambiguous column, in which 1,234 may mean 1234 or 1.234."""
    unsure = next((text for text in _present(texts) if local_number(text, ".") != local_number(text, ",")), None)
    if unsure is None:
        return "."
    if notation.decimal != "auto":
        return {"comma": ",", "point": "."}[notation.decimal]
    if len(marks) == 1:
        return next(iter(marks))
    if not marks and notation.delimiter in ";,":
        return "," if notation.delimiter == ";" else "."
    raise ValueError(
        f"{place_of(name, texts, unsure, notation)}: is its mark a decimal one, or that of the thousands? set"
        " --data.table.decimal comma or point"
    )


def _regroup(
    found: dict[str, tuple[Numbers | Texts, Reading]],
    columns: Mapping[str, Texts],
    notation: Notation,
    marks: set[str],
) -> None:
    """In a file with decimal commas, 1.234 means 1234 if every point of the column can be a separator."""
    for name, (_, reading) in found.items():
        texts = [text for text in columns[name].tolist() if text]
        if reading == PLAIN and any("." in text for text in texts):
            comma = Reading(kind="local", decimal=",")
            can_be = all(comma.number(text) is not None for text in texts)
            if can_be and _choose_mark(name, columns[name], notation, marks) == ",":
                found[name] = _read(columns[name], comma)


def _order(name: str, texts: Texts, orders: tuple[str, ...], notation: Notation) -> str:
    wanted = {"day-first": "dmy", "month-first": "mdy"}.get(notation.dates)
    if len(orders) == 1:
        return orders[0]
    chosen = [order for order in orders if order[:3] == wanted]
    first = _present(texts)[0]
    if chosen:
        return chosen[0]
    if wanted is None and "." in first.split()[0]:  # 01.02.2026 always has the day first
        return next(order for order in orders if order[:3] == "dmy")
    raise ValueError(
        f"{place_of(name, texts, first, notation)}: is that the day or the month first? set --data.table.dates"
        " day-first or month-first, or write 2026-01-31"
    )


def check_words(name: str, texts: Texts, notation: Notation) -> None:
    """ValueError if texts are not categories: nearly all of them are numbers, or nearly all of them differ."""
    present = _present(texts)
    best = max(("plain", ".", ","), key=lambda mark: sum(_is_number(text, mark) for text in present))
    odd = [text for text in present if not _is_number(text, best)]
    num_distinct = len(set(present))
    if len(present) - len(odd) >= _NEARLY_ALL * len(present):
        raise ValueError(
            f"{place_of(name, texts, odd[0], notation)}, and {len(present) - len(odd):,} of the column's"
            f" {len(present):,} values are numbers: correct it, leave it empty for a missing value, {_HINT}"
        )
    if num_distinct > max(_FEW, len(present) / 2):
        raise ValueError(
            f"{place_of(name, texts, present[0], notation)}, and {num_distinct:,} of the column's {len(present):,}"
            f" values differ: an identifier or free text is not a category; name it in --data.table.id {name} or"
            f" --data.table.ignore {name}"
        )


def _is_number(text: str, mark: str) -> bool:
    return as_number(text) is not None if mark == "plain" else local_number(text, mark) is not None


def place_of(name: str, texts: Texts, text: str, notation: Notation) -> str:
    """Position of the first occurrence of a text, as the start of an error message."""
    row = texts.tolist().index(text)
    return f"{notation.name}: column {name} holds {text[:60]!r} in {notation.where(row)}"
