"""Dates and times as text, as numbers of seconds."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Literal

Order = Literal["ymd", "dmy", "mdy"]
ORDERS: tuple[Order, ...] = ("ymd", "dmy", "mdy")

_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?\s?(?P<half>[AaPp][Mm])?"
)
_TIME = re.compile(_CLOCK)
_DATE = re.compile(
    r"(?P<first>\d{1,4})(?P<mark>[-/.])(?P<middle>\d{1,2})(?P=mark)(?P<last>\d{1,4})"
    rf"(?:[T\s]\s?{_CLOCK})?\s?(?P<zone>Z|UTC|[+-]\d{{2}}:?\d{{2}})?"
)
_EPOCH = datetime.datetime(1970, 1, 1)


def date_seconds(text: str, order: str) -> float | None:
    """Parse a date with or without a time as seconds from 1970; None if it is not one in that order.

    Args:
        text: such as 2026-01-31, 31.01.2026 14:05 or 2026-01-31T14:05:00+01:00; a year has four digits.
        order: of year, month and day: ymd, dmy or mdy; with "z" at its end each date has a time zone.
    """
    match = _DATE.fullmatch(text)
    if match is None or (match["zone"] is not None) != order.endswith("z"):
        return None
    parts = dict(zip(order, (match["first"], match["middle"], match["last"]), strict=False))
    if len(parts["y"]) != 4 or max(len(parts["m"]), len(parts["d"])) > 2:
        return None
    clock = 0.0 if match["hour"] is None else _clock_seconds(match)
    try:
        day = datetime.datetime(int(parts["y"]), int(parts["m"]), int(parts["d"]))
    except ValueError:
        return None
    return None if clock is None else (day - _EPOCH).total_seconds() + clock - _zone_seconds(match["zone"])


def time_seconds(text: str) -> float | None:
    """Parse a time of the day, such as 14:05 or 2:05 PM, as seconds from midnight; None if it is not one."""
    match = _TIME.fullmatch(text)
    return None if match is None else _clock_seconds(match)


def possible_orders(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the orders in which all texts are dates."""
    return tuple(
        order + zone
        for order in ORDERS
        for zone in ("", "z")
        if texts and all(date_seconds(text, order + zone) is not None for text in texts)
    )


def spell_date(seconds: float) -> str:
    """Format a date, with its time unless that is midnight, in ISO 8601; clipped to the calendar's range."""
    first, last = (datetime.datetime(year, 1, 1) - _EPOCH for year in (1, 9999))
    held = min(max(round(seconds), first.total_seconds()), last.total_seconds())
    moment = _EPOCH + datetime.timedelta(seconds=held)
    return moment.date().isoformat() if moment.time() == datetime.time() else moment.isoformat(sep=" ")


def spell_time(seconds: float) -> str:
    """A time of the day, HH:MM:SS."""
    whole = min(max(round(seconds), 0), 86_399)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _clock_seconds(match: re.Match[str]) -> float | None:
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"].lower() == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return hour * 3600 + minute * 60 + second + float(f"0.{match['fraction'] or 0}")


def _zone_seconds(zone: str | None) -> float:
    if zone is None or zone in ("Z", "UTC"):
        return 0.0
    digits = zone[1:].replace(":", "")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)
