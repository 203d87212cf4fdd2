"""Result files of the applications: written by `app_<name>.py`, and collected in a table.

python benchmarks/applications.py        collects results/app_*_<yyyymm>.json in results/applications_<yyyymm>.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import fastvae

RESULTS = Path(__file__).parent / "results"
MONTH = "202611"
_PATHS = ("--out", "--run-dir", "--runs", "--pictures")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number of an application, which may have a requirement."""

    application: str
    figure: str  # name of the measured quantity with its unit
    value: float | str
    bar: str  # the requirement, or "" for none
    met: bool | None  # None if there is no requirement
    command: str
    seed: int
    seconds: float  # time of the command until this measurement
    note: str = ""
    unseen: bool = False  # whether the data chose nothing: no default, no option


def figure(
    application: str,
    name: str,
    value: float,
    *,
    seed: int,
    seconds: float,
    at_least: float | None = None,
    at_most: float | None = None,
    note: str = "",
    unseen: bool = False,
) -> Figure:
    """A figure of the running command, compared with its requirement if it has one.

    ``unseen`` marks data on which nothing was chosen.
    """
    bars = [f">= {at_least:g}"] if at_least is not None else []
    bars += [f"<= {at_most:g}"] if at_most is not None else []
    met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    return Figure(
        application=application,
        figure=name,
        value=value,
        bar=" and ".join(bars),
        met=met if bars else None,
        command=_command(),
        seed=seed,
        seconds=round(seconds, 1),
        note=note,
        unseen=unseen,
    )


def _command() -> str:
    """The running command without its options for paths."""
    words = iter(sys.argv[1:])
    shown = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    for word in words:
        name, _, value = word.partition("=")
        if name == "--folder":
            shown.append("--folder FOLDER")
        elif name not in _PATHS:
            shown.append(word)
            continue
        if not value:
            next(words, None)
    return " ".join(shown)


def write_figures(name: str, figures: list[Figure], out: Path | None = None, *, merge: bool = False) -> Path:
    """Write the figures to ``results/app_<name>_<yyyymm>.json`` (or ``out``) and print them with the path.

    With ``merge``, for a command that measured a part, the file keeps its figures with other names, before these.
    """
    path = RESULTS / f"app_{name}_{MONTH}.json" if out is None else out
    measured = {(row.application, row.figure) for row in figures}
    kept = [row for row in _read(path) if (row.application, row.figure) not in measured] if merge else []
    path.write_text(json.dumps([asdict(row) for row in (*kept, *figures)], indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    print(path)
    return path


def _read(path: Path) -> list[Figure]:
    """The figures of a file; empty if it does not exist."""
    return [Figure(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def table(figures: list[Figure]) -> str:
    """Format the figures as a Markdown table."""
    lines = [
        "| application | figure | value | bar | met | unseen data | seed | s | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        value = f"{row.value:.4g}" if isinstance(row.value, float) else str(row.value)
        met = {True: "yes", False: "NO", None: ""}[row.met]
        unseen = "yes" if row.unseen else ""
        cells = (
            row.application,
            row.figure,
            value,
            row.bar,
            met,
            unseen,
            str(row.seed),
            f"{row.seconds:.0f}",
            row.note,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def collate(paths: list[Path]) -> str:
    """A page with the figures and commands of all applications."""
    figures = [row for path in paths for row in _read(path)]
    required, met = [row for row in figures if row.met is not None], [row for row in figures if row.met]
    commands = dict.fromkeys(row.command for row in figures)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, fastvae {fastvae.__version__}"
    return "\n".join(
        [
            "# Applications",
            "",
            f"{len(met)} of {len(required)} requirements met. Collected on {machine}; each figure has its own command."
            " Unseen data are data on which nothing was chosen.",
            "",
            table(figures),
            "",
            "```",
            *commands,
            "```",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=RESULTS / f"applications_{MONTH}.md")
    out = parser.parse_args().out
    out.write_text(collate(sorted(RESULTS.glob(f"app_*_{MONTH}.json"))), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
