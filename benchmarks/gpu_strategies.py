"""Train digits under ddp, fsdp and deepspeed and compare it with a single process; part of run_gpu.sh."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import gpu_tables
from gpu_processes import TrainingRun, run_together
from gpu_rows import FAILED, OK, SKIPPED, record_check

FIRST_STEP_RELATIVE, WEIGHT_ABSOLUTE = 1e-5, 5e-5
STRATEGIES = {
    "ddp": ("--train.strategy=ddp",),
    "fsdp": ("--train.strategy=fsdp",),
    "deepspeed": ("--train.strategy=deepspeed", "--train.deepspeed.stage=2"),
}


def compare(run: TrainingRun, single: TrainingRun) -> tuple[bool, str]:
    """Whether a run's first loss (relative error) and weights (largest error) agree with the single process."""
    relative = abs(run.first_loss_nats() / single.first_loss_nats() - 1)
    ours, theirs = run.weights(), single.weights()
    farthest = max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
    detail = (
        f"relative error of the first loss {relative:.1e}, limit {FIRST_STEP_RELATIVE:.0e}; "
        f"largest error of the weights {farthest:.1e}, limit {WEIGHT_ABSOLUTE:.0e}"
    )
    return relative <= FIRST_STEP_RELATIVE and farthest <= WEIGHT_ABSOLUTE, detail


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the runs; an existing run of one process is reused")
    parser.add_argument("--results", type=Path, required=True, help="folder of checks.csv")
    parser.add_argument("--step", default="strategies", help="name of this step in the rows")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--ranks", type=int, default=1, help="1: NCCL on a GPU; 2: gloo, two ranks on one GPU")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp"], choices=list(STRATEGIES))
    options = parser.parse_args()

    def run_of(name: str, ranks: int, *words: str) -> TrainingRun:
        words = (f"--train.steps={options.steps}", *words)
        return TrainingRun(run_dir=options.folder / name, device=options.device, options=words, num_ranks=ranks)

    single, fine = run_of("single", 0, "--train.strategy=single"), True
    runs = {name: run_of(f"{name}_{options.ranks}", options.ranks, *STRATEGIES[name]) for name in options.strategies}
    if "deepspeed" in runs and importlib.util.find_spec("deepspeed") is None:
        del runs["deepspeed"]
        record_check(options.results, options.step, "deepspeed", SKIPPED, "deepspeed is not installed")
    again = [] if (single.run_dir / "model.safetensors").exists() else [single]
    failed = run_together([*again, *runs.values()])
    for name, run in runs.items():
        if run in failed or single in failed:
            holds, detail = False, "a run failed; its output is in run_gpu.log"
        else:
            holds, detail = compare(run, single)
        check = f"{name}, {options.ranks} rank{'s' if options.ranks > 1 else ''}"
        detail = f"{options.steps} steps: {detail}"
        fine &= record_check(options.results, options.step, check, OK if holds else FAILED, detail)
    gpu_tables.write_pages(options.results)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
