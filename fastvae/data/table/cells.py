"""The cells of a table as numbers: decimal commas, thousands, currencies, percentages, True and False, dates, gaps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastvae.data.files.dates import date_seconds, spell_date, spell_time, time_seconds

# What pandas, R, spreadsheets and databases write for a missing value, in lower case.
MISSING = frozenset(
    "na n/a nan -nan null none ? <na> nat \\n (null) #na #n/a #div/0! #value! #ref! #num! #name? #null!"
    " 1.#ind -1.#ind 1.#qnan -1.#qnan".split()
) | {"", "#n/a n/a"}
# Missing if the column's other values are numbers; in a column of words they are words.
_MISSING_AMONG_NUMBERS = frozenset(("-", "--", "---", "\u2013", "\u2014", ".", ".."))

_CURRENCY = r"[$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u20ba\u20aa\u20ab\u20b4\u20a6\u0e3f\u00a2\u20bf]|[A-Z]{0,2}\$"
_CODES = "USD|EUR|GBP|JPY|CHF|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|RUB|TRY|kr|z\u0142|Fr\\."
_SPACE = "[ \u00a0\u2009\u202f]"


def _number_pattern(decimal: str) -> re.Pattern[str]:
    group = "," if decimal == "." else "."
    grouped = rf"[1-9]\d{{0,2}}(?:(?P<mark>\{group}|['\u2019]|{_SPACE})\d{{3}})(?:(?P=mark)\d{{3}})*"
    indian = r"[1-9]\d?(?:,\d{2})+,\d{3}|" if decimal == "." else ""
    return re.compile(
        rf"(?P<open>\()?(?P<sign>[-+])?{_SPACE}?(?P<before>{_CURRENCY}|(?:{_CODES})(?![a-z]))?{_SPACE}?(?P<inner>[-+])?"
        rf"(?P<whole>{indian}{grouped}|\d+)?(?:\{decimal}(?P<part>\d*))?(?P<exponent>[eE][-+]?\d{{1,3}})?"
        rf"{_SPACE}?(?P<after>%|\u2030|{_CURRENCY}|{_CODES})?(?P<close>\))?"
    )


_NUMBERS = {decimal: _number_pattern(decimal) for decimal in ".,"}
_NOT_A_DIGIT = re.compile(r"\D")


@dataclass(frozen=True)
class Reading:
    """How the texts of one column are parsed as numbers; stored in a run."""

    kind: str = "number"
    """number (as programming languages write it), local (with thousands separators and units), truth (True and False),
    date (seconds from 1970) or time (seconds from midnight)."""
    decimal: str = "."
    """The decimal mark of a local number."""
    unit: str = ""
    """Prefix or suffix of every local number, such as $ or %."""
    order: str = ""
    """Order of year, month and day in a date: ymd, dmy, mdy; with z if there are time zones."""

    def number(self, text: str) -> float | None:
        """Parse a text as a number; None if it is not of this kind."""
        if self.kind == "truth":
            return _TRUTHS.get(text.lower())
        if self.kind == "date":
            return date_seconds(text, self.order)
        if self.kind == "time":
            return time_seconds(text)
        if self.kind == "number":
            return as_number(text)
        found = local_number(text, self.decimal)
        return found[0] if found is not None and found[1] == self.unit else None

    def spell(self, number: float) -> str:
        """Format a number: a date as a date, anything else as a plain number."""
        spellings = {"date": spell_date, "time": spell_time}
        return spellings[self.kind](number) if self.kind in spellings else f"{number:.6g}"

    @property
    def description(self) -> str:
        """Description of the reading in the schema."""
        if self.kind not in ("number", "local"):
            return {"truth": "True/False as 1/0", "date": f"date ({self.order})", "time": "time of the day"}[self.kind]
        details = [f"in {self.unit}"] if self.unit else []
        details += ["decimal comma"] if self.decimal == "," else []
        return "number" + (f" ({', '.join(details)})" if details else "")


PLAIN = Reading()
_TRUTHS = {"true": 1.0, "false": 0.0}


def as_number(text: str) -> float | None:
    """Parse a text in the notation of programming languages; None if it is not a number."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def local_number(text: str, decimal: str) -> tuple[float, str] | None:
    """Parse a number with thousands separators and a unit, such as 1,234.50 $ or (12) %; None if it is not one."""
    match = _NUMBERS[decimal].fullmatch(text.replace("\u2212", "-"))
    if match is None or not (match["whole"] or match["part"]):
        return None
    doubled = match["before"] and match["after"]
    if doubled or (match["sign"] and match["inner"]) or (match["open"] is None) != (match["close"] is None):
        return None
    digits = _NOT_A_DIGIT.sub("", match["whole"] or "0")
    number = float(f"{digits}.{match['part'] or 0}{match['exponent'] or ''}")
    is_negative = "-" in (match["sign"], match["inner"]) or match["open"] is not None
    return -number if is_negative else number, match["before"] or match["after"] or ""


def is_missing(text: str) -> bool:
    """Whether a cell contains a marker of a missing value."""
    return text.lower() in MISSING


def is_missing_number(text: str) -> bool:
    """The same for a cell of a column of numbers, in which a dash or a dot also means missing."""
    return text in _MISSING_AMONG_NUMBERS or text.lower() in MISSING


def numbers_of(texts: Sequence[str], reading: Reading) -> NDArray[np.float64] | int:
    """The column's numbers [N], NaN where one is missing; or the index of the first text that is not such a number."""
    numbers = np.empty(len(texts))
    for place, text in enumerate(texts):
        number = np.nan if text == "" else reading.number(text)
        if number is None and is_missing_number(text):
            number = np.nan
        if number is None:
            return place
        numbers[place] = number
    return numbers
