"""Every operator on the GPU beside the device-to-device copy, torch.compile and eager PyTorch: part of run_gpu.sh."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import torch

from fastvae.bench import Goal, report, this_machine
from fastvae.bench.suite import run_goals, write_results

HERE = Path(__file__).parent


def find_goals(*, dry_run: bool) -> list[Goal]:
    """The GPU's cases of all ``bench_<operator>.py``; dry, one CPU case of each."""
    modules = [
        importlib.import_module(path.stem) for path in sorted(HERE.glob("bench_*_*.py")) if "step" not in path.stem
    ]
    return [goal for module in modules for goal in (module.GOALS[-1:] if dry_run else module.CUDA_GOALS)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.7, help="time for each case, warm-up not counted")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--dry-run", action="store_true", help="a few CPU cases: tests this script")
    options = parser.parse_args()
    if not (options.dry_run or torch.cuda.is_available()):
        raise SystemExit("gpu_kernels.py: torch sees no GPU; --dry-run runs a few cases on the CPU")
    measured = run_goals(find_goals(dry_run=options.dry_run), budget_s=0.01 if options.dry_run else options.seconds)
    machine = this_machine("cpu" if options.dry_run else "cuda")
    path = write_results("kernels", measured, machine, options.out, "benchmarks/run_gpu.sh")
    print(report.result_table([result for _, result in measured]))
    print()
    print(report.bar_table(measured))  # last: it is what a short log should end with
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
