"""The table of faults: rows in order, and failures are shown."""

from __future__ import annotations

from types import SimpleNamespace

from tests.faults.table import Row, collect, table


def report(name: str, rows: list[dict[str, object]], *, failed: bool = False) -> SimpleNamespace:
    properties = [("fault", row) for row in rows]
    return SimpleNamespace(
        nodeid=f"tests/faults/test_x.py::{name}", when="call", failed=failed, duration=2.0, user_properties=properties
    )


def test_rows_are_sorted_and_failures_are_shown() -> None:
    row = {"number": "10", "fault": "a rank dies", "injected": 3, "survived": 3, "lost": "-", "seconds": 0.0}
    early = {**row, "number": "2", "fault": "SIGKILL"}
    stats = {"passed": [report("a", [row]), report("b", [early])], "failed": [report("test_c", [], failed=True)]}
    rows = collect(stats)
    assert [(r.number, r.fault, r.survived) for r in rows] == [
        ("2", "SIGKILL", 3),
        ("10", "a rank dies", 3),
        ("?", "test_c", 0),
    ]
    text = table(rows)
    assert text.splitlines()[0].startswith("| row | fault")
    assert text.endswith("7 faults injected: NOT all survived.")
    assert table([Row("2", "SIGKILL", 3, 3, "-")]).endswith("3 faults injected: all survived.")
