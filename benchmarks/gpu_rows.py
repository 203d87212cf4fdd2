"""Write the CSV rows of run_gpu.sh and its programs as soon as they are measured. PyTorch is not imported.

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
    """Add a row by a single write; a new file also gets a header.

    Raises:
        ValueError: the file's columns differ from those of the row.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row), lineterminator="\n")
    if path.exists() and path.stat().st_size > 0:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        if header != list(row):
            raise ValueError(
                f"{path}: the columns must be those of the new row, {list(row)}, got {header}; use another RESULTS"
            )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.writeheader()
    writer.writerow(row)
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file; empty if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record_check(results: Path, step: str, check: str, verdict: str, detail: str) -> bool:
    """Print a check and add it to checks.csv; returns False if it failed."""
    print(f"{verdict:8}{check}: {detail}", flush=True)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = {"step": step, "check": check, "verdict": verdict, "detail": " ".join(detail.split()), "date": date}
    append_row(results / CHECKS, row)
    return verdict != FAILED


if __name__ == "__main__":
    if len(sys.argv) != 6:
        raise SystemExit(__doc__)
    record_check(Path(sys.argv[1]), *sys.argv[2:])
