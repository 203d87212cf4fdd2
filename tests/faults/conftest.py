"""Injected faults: a short form of each in ``make test``, the full form in ``make faults``, which prints the table.

A test of a row of the table uses the fixture ``fault``, injects the fault, and calls ``fault.row`` with its result.
A failed test appears as a row that was not survived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.program import build_shim
from tests.faults.table import Fault, collect, heading, table


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults-full", action="store_true", help="inject every fault as often as `make faults` does")
    group.addoption("--faults-report", type=Path, help="also write the table to this Markdown file")


@pytest.fixture
def fault(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Fault:
    return Fault(full=request.config.getoption("--faults-full", default=False), record=record_property)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield
    rows = collect(terminalreporter.stats)
    full = config.getoption("--faults-full", default=False)
    if not rows or not full:
        return
    text = table(rows)
    terminalreporter.section("faults")
    terminalreporter.write_line(text)
    path = config.getoption("--faults-report", default=None)
    if path is not None:
        seconds = sum(row.seconds for row in rows)
        path.write_text(f"{heading(seconds)}\n{text}\n", encoding="utf-8")
        terminalreporter.write_line(f"written to {path}")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = build_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("no C compiler: faults cannot be injected into system calls")
    return library
