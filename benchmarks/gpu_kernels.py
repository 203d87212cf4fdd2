"""Measure operators on the GPU alone, compared with eager PyTorch, or with torch.compile; part of run_gpu.sh.

    python benchmarks/gpu_kernels.py alone|eager|compiled --results FOLDER --seconds 30 [--dry-run]

Calls are interleaved with a copy of 512 MiB from device to device. The copy's speed is therefore measured at the same
time, and it evicts the call's data from the L2 cache. Each case is written to disk as soon as it is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import gpu_cases
import gpu_tables
import torch
from gpu_bars import BACKWARD, BOTH, FORWARD
from gpu_cases import GpuCase
from gpu_rows import FAILED, KERNELS, OK, append_row, record_check

from fastvae.bench import COMPILED, EAGER, LIMIT, OURS, Case, Result, measure, report, this_machine

COPY_MIB = 512
CONTENDERS = {"alone": (OURS, LIMIT), "eager": (OURS, EAGER, LIMIT), "compiled": (OURS, COMPILED, LIMIT)}


def cases_of(step: str) -> list[GpuCase]:
    """The cases of a step in order of importance."""
    if step == "alone":
        return [*gpu_cases.in_parts(FORWARD, BACKWARD), gpu_cases.noise()]
    if step == "eager":
        return [*gpu_cases.in_parts(FORWARD, BACKWARD, BOTH), *gpu_cases.small(), gpu_cases.noise()]
    first = gpu_cases.headlines()
    rest = chain(gpu_cases.small(), gpu_cases.in_parts(FORWARD, BOTH))
    return [*first, *(case for case in rest if case not in first)]


def copy_case(device: str, mib: int) -> Case:
    """A case that measures the copy itself."""
    source = torch.empty(mib * 2**18, device=device).normal_()
    out = torch.empty_like(source)
    num_bytes = 2 * source.numel() * source.element_size()
    call = lambda: (out.copy_(source),)  # noqa: E731
    return Case(
        operator="copy",
        part=FORWARD,
        shape=tuple(source.shape),
        dtype=source.dtype,
        device=source.device,
        calls={OURS: call, LIMIT: call},
        elements=source.numel(),
        num_bytes=num_bytes,
        limit_bytes=num_bytes,
    )


def with_copy(case: Case, names: Sequence[str], copy: Case) -> Case:
    """The case with only the named calls, and the large copy as its limit."""
    calls = {name: call for name, call in case.calls.items() if name in names}
    return dataclasses.replace(case, calls=calls | {LIMIT: copy.calls[LIMIT]}, limit_bytes=copy.limit_bytes)


def measure_all(step: str, cases: Iterable[GpuCase], results: Path, *, dry_run: bool, seconds: float) -> bool:
    """Measure cases until the time is over; returns False if a case failed."""
    device, end = ("cpu" if dry_run else "cuda"), time.monotonic() + seconds
    budget_s = 0.0 if dry_run else 0.12
    warm_up_s = 0.0 if dry_run else 0.3 if step == "compiled" else 0.05  # the GPU idles while the CPU compiles
    facts = dataclasses.asdict(this_machine(device))
    copy = copy_case(device, 1 if dry_run else COPY_MIB)
    rounds = 1 if dry_run else 10
    if step == "alone":
        write(results, measure(copy, budget_s=budget_s, min_rounds=rounds, warm_up_s=10 * warm_up_s), facts)
    cases, measured, failed = list(cases), 0, []
    for case in cases:
        if time.monotonic() > end:
            break
        print(f"{step}: {case}", flush=True)
        try:
            built = case.build(device, with_compiled=step == "compiled")
            built = with_copy(built, CONTENDERS[step], copy)
            write(results, measure(built, budget_s=budget_s, min_rounds=rounds, warm_up_s=warm_up_s), facts)
            measured += 1
        except RuntimeError:  # from the device or the compiler; other cases may still run
            traceback.print_exc()
            failed.append(str(case))
    detail = f"{measured} of {len(cases)} cases" + (f"; failed: {'; '.join(failed)}" if failed else "")
    return record_check(results, step, "cases measured", FAILED if failed or not measured else OK, detail)


def write(results: Path, result: Result, facts: dict[str, Any]) -> None:
    """Write a row per call of the case."""
    for row in report.rows([result]):
        append_row(results / KERNELS, {**row, **facts})
    timing = result.timings[OURS]
    shares = "".join(f", {result.speedup(name):.2f} x {name}" for name in result.timings if name not in (OURS, LIMIT))
    print(f"    {timing.p50_us:,.1f} us, {result.share_of_limit():.0%} of the copy{shares}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(CONTENDERS))
    parser.add_argument("--results", type=Path, required=True, help="folder of kernels.csv")
    parser.add_argument("--seconds", type=float, default=600, help="time after which no new case is started")
    parser.add_argument("--dry-run", action="store_true", help="test this script with tiny cases on the CPU")
    options = parser.parse_args()
    cases = cases_of(options.step)
    if options.dry_run:
        cases = list(dict.fromkeys(case.tiny() for case in cases))
        torch.compiler.set_stance("force_eager")  # each compilation takes seconds
    elif not torch.cuda.is_available():
        raise SystemExit("gpu_kernels.py: PyTorch finds no GPU; --dry-run measures tiny cases on the CPU")
    ok = measure_all(options.step, cases, options.results, dry_run=options.dry_run, seconds=options.seconds)
    gpu_tables.write_pages(options.results)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
