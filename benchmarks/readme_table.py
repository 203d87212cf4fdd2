"""Update the README's tables from benchmarks/results: python benchmarks/readme_table.py.

The text between the markers is generated: for each result file with a table of requirements, the cases and the measured
ratios. A test checks that it agrees with the files.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def bars(page: Path) -> list[list[str]]:
    """The rows of a page's table of requirements; empty if the page has none."""
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
    """A Markdown table of all requirements in all result files, with links to the files."""
    lines = ["| case | bar | measured | |", "|---|---|---|---|"]
    for page in sorted(results.glob("*.md")):
        for case, bar, *_, measured, verdict in bars(page):  # there may be a column for the aim
            mark = "" if verdict == "reached" else "missed"
            lines.append(f"| [{case}](benchmarks/results/{page.name}) | {bar} | {measured} | {mark} |")
    return "\n".join(lines)


def updated(readme: str, results: Path = RESULTS) -> str:
    """The README with an updated table.

    Raises:
        ValueError: the markers are missing.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md must contain {BEGIN} and {END} once each; insert them where the table belongs")
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
