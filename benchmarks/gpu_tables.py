"""Make tables from the CSV files of run_gpu.sh.

    python benchmarks/gpu_tables.py FOLDER [FOLDER ...]                            # tables next to the CSV files
    python benchmarks/gpu_tables.py FOLDER [FOLDER ...] --out benchmarks/results   # <what>_<gpu>_<yyyymm>.{md,csv}

Each folder has the results of one run of the script; later folders replace measurements of earlier ones. The script
imports neither torch nor fastvae, so that it is quick.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from gpu_bars import COMPILED, EAGER, LIMIT, OURS, bars_of
from gpu_rows import CHECKS, KERNELS, TRAIN_STEP, append_row, read_rows

Rows = list[dict[str, str]]
CASE = ("operator", "variant", "part", "shape", "dtype")
KEYS = {
    KERNELS: (*CASE, "call"),
    TRAIN_STEP: ("network", "contender", "turn"),
    CHECKS: ("step", "check"),
}
FACTS = ("hardware", "cpu", "threads", "backend", "versions", "date")
HOW_KERNELS = (
    "Medians between CUDA events of interleaved calls in one process, after a warm-up. A copy of 512 MiB from device "
    "to device is one of the calls, so that a call's data are not in the L2 cache; the large shapes move several times "
    "its size. GB/s counts each input read once and each output written once; 'of copy' is the fraction of the copy's "
    "GB/s; '/ ours' is the other call's time divided by ours. Made by `benchmarks/run_gpu.sh`."
)
HOW_STEPS = (
    "Medians over rounds in shuffled order in one process, without the first; 'matrix products' are the network's "
    "products and convolutions alone, forward and backward. Made by `benchmarks/run_gpu.sh`."
)
CAPTURED, LOOP = "fastvae.train, captured", "eager loop"
CAPTURED_BAR = 5.0  # required speedup over the eager loop for the textbook network


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    shown = [header, ["-" * max(3, width) for width in widths], *lines]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in shown)


def newest(name: str, folders: Sequence[Path]) -> Rows:
    """The rows of a file in all folders; a repeated measurement replaces the earlier row."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for folder in folders:
        for row in read_rows(folder / name):
            found[tuple(row[column] for column in KEYS[name])] = row
    return list(found.values())


def case_name(row: dict[str, str]) -> str:
    """The name of a case as the harness prints it."""
    return " ".join(filter(None, (row[column] for column in CASE)))


def by_case(rows: Rows) -> dict[str, dict[str, dict[str, str]]]:
    """The rows of each case, by call."""
    cases: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in rows:
        cases[case_name(row)][row["call"]] = row
    return cases


def kernel_table(rows: Rows) -> str:
    """A table with a line per case: time, bandwidth, and the ratios to the copy, eager PyTorch and torch.compile."""
    lines = []
    for name, calls in by_case(rows).items():
        ours = calls[OURS]
        times = [f"{float(ours[column]):,.1f}" for column in ("p20_us", "p50_us", "p80_us")]
        speed = [f"{float(ours['gb_per_s']):,.0f}", f"{float(ours['share_of_limit']):.0%}"]
        ratios = [f"{float(calls[other]['times_ours']):.2f}" if other in calls else "" for other in (EAGER, COMPILED)]
        lines.append([name, *times, *speed, *ratios])
    header = ["call", "20 % µs", "50 % µs", "80 % µs", "GB/s", "of copy", "eager / ours", "torch.compile / ours"]
    return markdown(header, lines)


def kernel_bars(rows: Rows, title: str) -> str:
    """A table of all requirements of the measured cases."""
    lines = []
    for name, calls in by_case(rows).items():
        row = calls[OURS]
        for other, least in bars_of(row["operator"], row["part"], row["shape"], row["dtype"]).items():
            if other not in calls:
                continue
            value = float(row["share_of_limit"] if other == LIMIT else calls[other]["times_ours"])
            form = "{:.0%} of the copy" if other == LIMIT else "{:.2f} x " + other
            verdict = "reached" if value >= least else "MISSED"
            lines.append([name, ">= " + form.format(least), form.format(value), verdict])
    return markdown([title, "bar", "measured", ""], lines) if lines else ""


def step_rates(rows: Rows) -> dict[tuple[str, str], list[float]]:
    """Images per second of each network and contender, without the warm-up round."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if int(row["turn"]) > 0:
            rates[row["network"], row["contender"]].append(float(row["images_per_s"]))
    return rates


def step_table(rows: Rows) -> str:
    """A table with a line per network and contender."""
    rates, lines = step_rates(rows), []
    for (network, contender), values in rates.items():
        middle, eager = statistics.median(values), rates.get((network, LOOP))
        ratio = f"{middle / statistics.median(eager):.2f}" if eager else ""
        lines.append([network, contender, f"{min(values):,.0f}", f"{middle:,.0f}", f"{max(values):,.0f}", ratio])
    header = ["network", "contender", "least images/s", "median", "most", "times the eager loop"]
    return markdown(header, lines)


def step_bars(rows: Rows) -> str:
    """The requirement for the captured step of the textbook network, compared with the eager loop."""
    rates = step_rates(rows)
    ours, eager = rates.get(("textbook", CAPTURED)), rates.get(("textbook", LOOP))
    if not ours or not eager:
        return ""
    value = statistics.median(ours) / statistics.median(eager)
    verdict = "reached" if value >= CAPTURED_BAR else "MISSED"
    line = [f"textbook: {CAPTURED}", f">= {CAPTURED_BAR:.2f} x {LOOP}", f"{value:.2f}", verdict]
    return markdown(["case", "bar", "measured", ""], [line])


def check_table(rows: Rows) -> str:
    """A table of the comparisons with the CPU, compute-sanitizer or another run, and the results of the steps."""
    return markdown(
        ["step", "check", "verdict", ""], [[row[c] for c in ("step", "check", "verdict", "detail")] for row in rows]
    )


def parts_of(name: str, rows: Rows) -> list[str]:
    """The sections of a page below its header."""
    if name == KERNELS:
        first = [row for row in rows if row["operator"] == "gaussian_rsample_kl" and not row["variant"]]
        others = [row for row in rows if row not in first]
        # readme_table.py reads only the first table, whose title is one word: the README shows one operator.
        return [kernel_bars(first, "case"), kernel_bars(others, "other case"), kernel_table(rows), HOW_KERNELS]
    if name == TRAIN_STEP:
        return [step_bars(rows), step_table(rows), HOW_STEPS]
    return [check_table(rows), "Made by `benchmarks/run_gpu.sh`."]


def pages_of(folders: Sequence[Path]) -> dict[str, tuple[Rows, str]]:
    """The rows and the page of each CSV file in the folders."""
    found = {}
    for name in KEYS:
        if rows := newest(name, folders):
            title = f"# {name.removesuffix('.csv')}: {hardware_of(folders)}"
            facts = "\n".join(f"- {fact}: {rows[-1][fact]}" for fact in FACTS if rows[-1].get(fact))
            found[name] = (rows, "\n\n".join(filter(None, [title, facts, *parts_of(name, rows)])) + "\n")
    return found


def hardware_of(folders: Sequence[Path]) -> str:
    """The hardware according to the measurements, or else to the run's checks."""
    names = [row["hardware"] for name in (KERNELS, TRAIN_STEP) for row in newest(name, folders)]
    names += [row["detail"] for row in newest(CHECKS, folders) if row["check"] == "hardware"]
    return names[-1] if names else "unknown hardware"


def write_pages(results: Path) -> None:
    """Write the tables of one run next to its CSV files."""
    for name, (_, page) in pages_of([results]).items():
        (results / name).with_suffix(".md").write_text(page, encoding="utf-8")


def collect(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write the tables and rows of all runs with the file names of benchmarks/results; returns the pages' paths."""
    slug = re.sub(r"[^a-z0-9]+", "-", hardware_of(folders).lower()).strip("-")
    written = []
    for name, (rows, page) in pages_of(folders).items():
        month = rows[-1]["date"][:7].replace("-", "")
        path = out / f"{name.removesuffix('.csv')}_{slug}_{month}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        path.with_suffix(".csv").unlink(missing_ok=True)
        for row in rows:
            append_row(path.with_suffix(".csv"), row)
        written.append(path)
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="RESULTS folders of run_gpu.sh")
    parser.add_argument("--out", type=Path, help="folder of the collected results")
    options = parser.parse_args()
    if options.out is not None:
        print(*collect(options.folders, options.out), sep="\n")
        return 0
    for folder in options.folders:
        write_pages(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
