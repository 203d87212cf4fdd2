"""Figures of the applications: what `app_<name>.py` writes, and their table.

python benchmarks/applications.py        collates results/app_*_<yyyymm>.json into results/applications_<yyyymm>.md
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
_PLACES = ("--out", "--run-dir", "--runs", "--pictures")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that an application is held to."""

    application: str
    figure: str  # what was measured, with its unit
    value: float | str
    bar: str  # what was asked for; "" for a number that stands beside another
    met: bool | None  # None where nothing was asked for
    command: str
    seed: int
    seconds: float  # of the whole command up to here
    note: str = ""


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
) -> Figure:
    """A figure of the command that runs now, held to a bar where there is one."""
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
    )


def _command() -> str:
    """The command that runs now, without the options that only say where files lie."""
    words = iter(sys.argv[1:])
    shown = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    for word in words:
        name, _, value = word.partition("=")
        if name not in _PLACES:
            shown.append(word)
        elif not value:
            next(words, None)
    return " ".join(shown)


def write_figures(name: str, figures: list[Figure], out: Path | None = None, *, merge: bool = False) -> Path:
    """Write ``results/app_<name>_<yyyymm>.json`` (or ``out``), print the figures, and say where they are.

    With ``merge`` the file's figures of other names stay as they are, before these: for a command that measured a part.
    """
    path = RESULTS / f"app_{name}_{MONTH}.json" if out is None else out
    measured = {(row.application, row.figure) for row in figures}
    kept = [row for row in _read(path) if (row.application, row.figure) not in measured] if merge else []
    path.write_text(json.dumps([asdict(row) for row in (*kept, *figures)], indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    print(path)
    return path


def _read(path: Path) -> list[Figure]:
    """The figures of a file; none where there is none."""
    return [Figure(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def table(figures: list[Figure]) -> str:
    """The figures in Markdown."""
    lines = ["| application | figure | value | bar | met | seed | s | note |", "|---|---|---|---|---|---|---|---|"]
    for row in figures:
        value = f"{row.value:.4g}" if isinstance(row.value, float) else str(row.value)
        met = {True: "yes", False: "NO", None: ""}[row.met]
        cells = (row.application, row.figure, value, row.bar, met, str(row.seed), f"{row.seconds:.0f}", row.note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def collate(paths: list[Path]) -> str:
    """One page of all applications' figures: the table, and the commands."""
    figures = [row for path in paths for row in _read(path)]
    asked, met = [row for row in figures if row.met is not None], [row for row in figures if row.met]
    commands = dict.fromkeys(row.command for row in figures)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, fastvae {fastvae.__version__}"
    return "\n".join(
        [
            "# Applications",
            "",
            f"{len(met)} of {len(asked)} bars met. Collated on {machine}; each file has its own commands and seconds.",
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
