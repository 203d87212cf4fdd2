"""Train digits on the GPU and compare it with the CPU; part of run_gpu.sh."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import gpu_tables
import torch
from gpu_processes import TrainingRun, run_together
from gpu_rows import FAILED, OK, record_check

from fastvae import ops

FIRST_STEP_RELATIVE = 1e-5  # both use float32, and their noise agrees to five digits
KINDS = {
    "fp32": (),
    "deterministic": ("--train.deterministic",),
    "captured": ("--train.capture",),
    "bf16": ("--train.precision=bf16",),
}


class Checks:
    """Records checks and whether all of them passed."""

    def __init__(self, results: Path) -> None:
        self.results, self.all_hold = results, True

    def record(self, check: str, holds: bool, detail: str) -> None:
        """Record one check."""
        self.all_hold &= record_check(self.results, "digits", check, OK if holds else FAILED, detail)


def check_noise(checks: Checks, device: str) -> None:
    """Check that the noise's integers are the same on both devices, including rows beyond 32 bits."""
    key = ops.noise_key(11, step=2, first_row=2**32 - 100)
    there = ops.philox_integers(key.to(device), 1000, 333, stream=ops.stream(ops.Use.LATENT)).cpu()
    checks.record("noise integers", torch.equal(there, ops.philox_integers(key, 1000, 333)), "1000 x 333 words equal")


def check_first_step(checks: Checks, name: str, run: TrainingRun, on_cpu: TrainingRun) -> None:
    """Compare the loss of step 1, before the first update of the weights."""
    here, there = run.first_loss_nats(), on_cpu.first_loss_nats()
    relative = abs(here / there - 1)
    detail = f"{here:.6f} nats, {there:.6f} on the CPU: error {relative:.1e}, limit {FIRST_STEP_RELATIVE:.0e}"
    checks.record(f"{name}: first-step loss", relative <= FIRST_STEP_RELATIVE, detail)


def check_resume(checks: Checks, runs: dict[str, TrainingRun], steps: int) -> None:
    """Resume each run from half of its steps in a new process and check that the weights are bit-for-bit equal."""
    before, half = {name: run.weights() for name, run in runs.items()}, steps // 2
    for run in runs.values():
        shutil.rmtree(run.run_dir / "checkpoints" / f"step_{steps:08d}")
        (run.run_dir / "model.safetensors").unlink()
        run.lines.clear()
    failed = run_together(list(runs.values()))
    for name, run in runs.items():
        resumed = run not in failed and f"from the checkpoint of step {half}" in "".join(run.lines)
        after = run.weights() if resumed else {}
        equal = after.keys() == before[name].keys() and all(torch.equal(before[name][key], after[key]) for key in after)
        detail = f"from step {half} of {steps}, bit for bit" if resumed else "the run was not resumed"
        checks.record(f"{name}: resume", equal, detail)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the runs")
    parser.add_argument("--results", type=Path, required=True, help="folder of checks.csv")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    checks = Checks(options.results)
    check_noise(checks, options.device)
    words = (f"--train.steps={options.steps}", f"--train.checkpoint-every={options.steps // 2}")
    on_cpu = TrainingRun(
        run_dir=options.folder / "cpu", device="cpu", options=("--train.steps=2", "--train.eval-every=None")
    )
    runs = {
        name: TrainingRun(run_dir=options.folder / name, device=options.device, options=(*words, *kind))
        for name, kind in KINDS.items()
        if options.device == "cuda" or name == "fp32"
    }
    failed = run_together([on_cpu, *runs.values()])
    for name, run in runs.items():
        if run in failed:
            checks.record(name, False, "the run failed; its output is in run_gpu.log")
            continue
        final, speed = run.records("final")[-1], run.records("train")[-1]["examples_per_s"]
        checks.record(name, True, f"{options.steps} steps, ELBO {final['elbo_nats']:.3f} nats, {speed:,.0f} examples/s")
        if name != "bf16" and on_cpu not in failed:
            check_first_step(checks, name, run, on_cpu)
    resumed = {name: run for name, run in runs.items() if run not in failed and name != "bf16"}
    check_resume(checks, resumed, options.steps)
    gpu_tables.write_pages(options.results)
    return 0 if checks.all_hold and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
