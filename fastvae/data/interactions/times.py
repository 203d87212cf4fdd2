"""The column of times of an interactions file: numbers or dates."""

from __future__ import annotations

import math
from array import array

import numpy as np
from numpy.typing import NDArray

from fastvae.data.files.dates import date_seconds, possible_orders

_NUMBER = "number"


class Times:
    """The times of interactions, in the order of the file: numbers such as Unix times, or dates in one notation.

    Args:
        column: name of the column in error messages.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._values: dict[str, array[float]] = {}  # by notation; those that fit all values so far
        self._num_values = 0

    def add(self, text: str) -> None:
        """Add the time of one interaction.

        Raises:
            ValueError: it is neither a number nor a date in the notation of the times before it.
        """
        if not self._num_values:
            notations = possible_orders([text]) if _number(text) is None else (_NUMBER,)
            self._values = {notation: array("d") for notation in notations}
        for notation, values in list(self._values.items()):
            value = _number(text) if notation == _NUMBER else date_seconds(text, notation)
            if value is None:
                del self._values[notation]
            else:
                values.append(value)
        if not self._values:
            raise ValueError(
                f"{self._column} must be a number or a date such as 2026-01-31 14:05, written like those above it,"
                f" got {text[:40]!r}"
            )
        self._num_values += 1

    def values(self) -> NDArray[np.float64]:
        """The times [N]: the numbers, or seconds from 1970.

        Raises:
            ValueError: the dates can be read in more than one order of day and month.
        """
        if len(self._values) > 1:
            raise ValueError(
                f"the dates of {self._column} can be read as {' or '.join(self._values)} (day, month and year); write"
                " them as YYYY-MM-DD"
            )
        return np.frombuffer(next(iter(self._values.values()), array("d")), dtype=np.float64)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
