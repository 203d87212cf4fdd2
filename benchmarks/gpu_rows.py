"""Rows that are on disk as soon as they are measured: what run_gpu.sh and its programs write. No torch is needed.

``python benchmarks/gpu_rows.py RESULTS STEP CHECK VERDICT DETAIL`` adds one row to checks.csv.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
KERNELS, TRAIN_STEP, CHECKS = "kernels.csv", "train_step.csv", "checks.csv"
OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


def append_row(path: Path, row: Row) -> None:
    """Add one row in one write; a new file gets its header first.

    Raises:
        ValueError: the file's columns are not those of the row.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row), lineterminator="\n")
    if path.exists() and path.stat().st_size > 0:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        if header != list(row):
            raise ValueError(
                f"{path}: its columns must be those of the new row, {list(row)}, got {header}; use another RESULTS"
            )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.writeheader()
    writer.writerow(row)
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record_check(results: Path, step: str, check: str, verdict: str, detail: str) -> bool:
    """Print one check and add it to checks.csv; returns whether it did not fail."""
    print(f"{verdict:8}{check}: {detail}", flush=True)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = {"step": step, "check": check, "verdict": verdict, "detail": " ".join(detail.split()), "date": date}
    append_row(results / CHECKS, row)
    return verdict != FAILED


if __name__ == "__main__":
    if len(sys.argv) != 6:
        raise SystemExit(__doc__)
    record_check(Path(sys.argv[1]), *sys.argv[2:])
