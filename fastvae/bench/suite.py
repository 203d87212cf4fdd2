"""What the benchmark scripts share: run goals, print them, write them down; and their way into pytest-benchmark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fastvae.bench import report
from fastvae.bench.cases import NOISE, build_case
from fastvae.bench.harness import COMPILED, EAGER, OURS, Bar, Case, Goal, Result, measure
from fastvae.bench.machine import Machine, this_machine

_RELATIVE_ERROR = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of the eager expressions, not of ours


def goal(*bars: Bar, operator: str, shape: tuple[int, ...], part: str = "forward", **options: Any) -> Goal:
    """A case that is built only when it is measured, and what it has to reach.

    Args:
        bars: what it has to reach; one against torch.compile brings that baseline in.
        operator, shape, part, options: as ``build_case`` takes them.
    """
    dtype, variant = options.get("dtype", torch.float32), options.get("variant")
    captured = "captured" if options.get("captured") else ""
    words = [
        operator,
        variant,
        captured,
        part if operator != NOISE else "",
        "x".join(map(str, shape)),
        str(dtype).split(".")[1],
    ]
    compiled = any(bar.against == COMPILED for bar in bars)

    def build() -> Case:
        return build_case(operator, part, shape, with_compiled=compiled, **options)

    return Goal(name=" ".join(filter(None, words)), build=build, bars=bars)


def run_goals(goals: Sequence[Goal], *, budget_s: float) -> list[tuple[Goal, Result]]:
    """Measure one after the other; each one's progress on stderr."""
    measured = []
    for number, each in enumerate(goals, 1):
        print(f"[{number}/{len(goals)}] {each}", file=sys.stderr)
        measured.append((each, measure(each.build(), budget_s=budget_s)))
    return measured


def write_results(
    name: str,
    measured: Sequence[tuple[Goal, Result]],
    machine: Machine,
    folder: Path,
    command: str,
    remarks: str = "",
) -> Path:
    """``<name>_<hardware>_<yyyymm>.md`` and ``.csv`` in ``folder``; returns the former."""
    results = [result for _, result in measured]
    tables = [report.bar_table(measured), remarks, report.result_table(results)]
    path = report.write_page(folder, name, machine, tables, f"{report.LIMIT_IS}. Made by `{command}`.")
    report.write_rows(path.with_suffix(".csv"), report.rows(results), machine)
    return path


def main(name: str, goals: Sequence[Goal], folder: Path, *, device: str = "cpu", remarks: str = "") -> int:
    """A benchmark script: measure, print the bars, what is to be said of them, and the table; write them to a file."""
    options = options_parser(f"Measure {name} beside its baselines.", folder).parse_args()
    machine = this_machine(device)
    measured = run_goals(goals, budget_s=options.seconds)
    print(f"{name}: {machine.hardware}; {machine.backend}; load {machine.load:.2f}\n")
    tables = (report.bar_table(measured), remarks, report.result_table([result for _, result in measured]))
    print("\n\n".join(filter(None, tables)))
    if options.out is not None:
        command = f"python benchmarks/{Path(sys.argv[0]).name}"
        print(f"\nwritten: {write_results(name, measured, machine, options.out, command, remarks)}")
    return 0


def options_parser(description: str, folder: Path) -> argparse.ArgumentParser:
    """The options that all benchmark scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each case, warm-up not counted")
    parser.add_argument("--out", type=Path, default=folder, help="folder of the results")
    parser.add_argument("--no-write", dest="out", action="store_const", const=None, help="print only")
    return parser


def check_and_benchmark(each: Goal, benchmark: Any) -> None:
    """One goal under pytest-benchmark: timed with the ratios in ``extra_info``; disabled, run once.

    Either way our results must be those of the eager expression, in what does not depend on the noise.
    """
    case = each.build()
    ours, theirs = case.calls[OURS](), case.calls[EAGER]()
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    assert all(bool(tensor.isfinite().all()) for tensor in ours)
    for position in case.equal:
        expected, tolerance = theirs[position].float(), _RELATIVE_ERROR[case.dtype]
        atol = tolerance * float(expected.abs().mean())
        torch.testing.assert_close(ours[position].float(), expected, rtol=tolerance, atol=atol)
    if benchmark.disabled:
        benchmark(case.calls[OURS])
        return
    result = measure(case, budget_s=1.0)
    benchmark.extra_info["share_of_limit"] = result.share_of_limit()
    benchmark.extra_info |= {f"speedup_over_{name}": result.speedup(name) for name in case.calls if name != OURS}
    benchmark.extra_info["bars"] = {f"{bar.against} {bar.at_least:g}": bar.measured(result) for bar in each.bars}
    benchmark(case.calls[OURS])
