"""Functions that the benchmark scripts share: measure goals, print and write the results, and use pytest-benchmark."""

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

_RELATIVE_ERROR = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # the eager expressions' error, not our operators'


def goal(*bars: Bar, operator: str, shape: tuple[int, ...], part: str = "forward", **options: Any) -> Goal:
    """A case with its requirements; the case is built just before it is measured.

    Args:
        bars: requirements; torch.compile is measured if one of them compares with it.
        operator, shape, part, options: passed on to ``build_case``.
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
    """Measure all goals and print the progress to stderr."""
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
    """Write ``<name>_<hardware>_<yyyymm>.md`` and ``.csv`` in ``folder``; returns the path of the former."""
    results = [result for _, result in measured]
    tables = [report.bar_table(measured), remarks, report.result_table(results)]
    path = report.write_page(folder, name, machine, tables, f"{report.LIMIT_IS}. Made by `{command}`.")
    report.write_rows(path.with_suffix(".csv"), report.rows(results), machine)
    return path


def main(name: str, goals: Sequence[Goal], folder: Path, *, device: str = "cpu", remarks: str = "") -> int:
    """The main function of a benchmark script: measure the goals, then print and write the results.

    Args:
        name: the benchmark's name.
        goals: the cases with their requirements.
        folder: default folder of the results.
        device: the device to describe in the results.
        remarks: comments on the requirements, printed below their table.

    Returns:
        The exit code.
    """
    options = options_parser(f"Compare {name} with its baselines.", folder).parse_args()
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
    """A parser with the options that all benchmark scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each case, without the warm-up")
    parser.add_argument("--out", type=Path, default=folder, help="folder of the results")
    parser.add_argument("--no-write", dest="out", action="store_const", const=None, help="print the results only")
    return parser


def check_and_benchmark(each: Goal, benchmark: Any) -> None:
    """Run one goal under pytest-benchmark, which stores the ratios in ``extra_info``; if disabled, run it once.

    In both cases, those of our results that do not depend on the noise must agree with the eager expression's.
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
