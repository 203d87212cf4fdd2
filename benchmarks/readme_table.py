"""Bring the README's tables up to date from benchmarks/results: python benchmarks/readme_table.py.

Between the markers stands, for each newest result file of the CPU, its table of bars: case and measured ratios. Nothing
in it is typed by hand, and a test compares it with the files.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def bars(page: Path) -> list[list[str]]:
    """The rows of a page's table of bars; none where it has no such table."""
    lines = page.read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"\| *\w+ +\| bar ", line)]
    if not starts:
        return []
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def table(results: Path = RESULTS) -> str:
    """Every bar of every result, in Markdown, with the file that it comes from."""
    lines = ["| case | bar | measured | |", "|---|---|---|---|"]
    for page in sorted(results.glob("*.md")):
        for case, bar, *_, measured, verdict in bars(page):  # an aim may stand between
            mark = "" if verdict == "reached" else "missed"
            lines.append(f"| [{case}](benchmarks/results/{page.name}) | {bar} | {measured} | {mark} |")
    return "\n".join(lines)


def updated(readme: str, results: Path = RESULTS) -> str:
    """The README with its table as the results have it.

    Raises:
        ValueError: the markers are missing.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md must hold {BEGIN} and {END} once each; put them where the table belongs")
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
