"""The table of faults: one line for every kind of injected fault."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table of faults."""

    number: str  # the row of the table, such as "2" or "3b"
    fault: str  # the injected fault
    injected: int  # number of injections
    survived: int
    lost: str  # the work that was lost, such as "at most 5 steps"
    seconds: float = 0.0


class Fault:
    """The fixture of a fault test: whether this is the full form, and the destination of its row."""

    def __init__(self, *, full: bool, record: Callable[[str, Any], None]) -> None:
        self.full = full
        self._record = record

    def times(self, short: int, full: int) -> int:
        """The number of injections: ``short`` in ``make test``, ``full`` in ``make faults``."""
        return full if self.full else short

    def row(
        self, number: str | int, fault: str, *, injected: int, survived: int | None = None, lost: str = "-"
    ) -> None:
        """Record a row of the table; ``survived`` defaults to all injections, if the test asserts each."""
        found = injected if survived is None else survived
        self._record("fault", asdict(Row(str(number), fault, injected, found, lost)))
        assert found == injected, f"{fault}: survived {found} of {injected}"


def collect(stats: dict[str, list[Any]]) -> list[Row]:
    """Return the rows of the tests that passed, and one row for each failed test."""
    rows = []
    for report in (report for kind in ("passed", "failed") for report in stats.get(kind, [])):
        if "tests/faults/" not in report.nodeid or report.when != "call":
            continue
        found = [
            Row(**{**value, "seconds": report.duration}) for name, value in report.user_properties if name == "fault"
        ]
        if report.failed and all(row.survived == row.injected for row in found):
            found = [Row("?", report.nodeid.partition("::")[2], 1, 0, "see the failure above", report.duration)]
        rows += found
    return sorted(rows, key=lambda row: (int("".join(c for c in row.number if c.isdigit()) or 99), row.number))


def table(rows: list[Row]) -> str:
    """Format the rows as Markdown with aligned columns."""
    cells = [("row", "fault", "injected", "survived", "lost work", "seconds")]
    cells += [(r.number, r.fault, str(r.injected), str(r.survived), r.lost, f"{r.seconds:.0f}") for r in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    survived = all(row.survived == row.injected for row in rows)
    total = sum(row.injected for row in rows)
    return "\n".join(
        [*lines, "", f"{total} faults injected: " + ("all survived." if survived else "NOT all survived.")]
    )


def heading(seconds: float) -> str:
    """The machine and the versions of the table."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    return (
        "# Faults injected into real runs\n\n"
        f"`make faults` on {machine}, torch {torch.__version__}; {seconds / 60:.0f} minutes of tests. Each line is one "
        "test in `tests/faults`, and passes by the criterion of its docstring.\n"
    )
