"""Train digits under ddp, fsdp and deepspeed: one rank with NCCL, two ranks of gloo on one GPU; part of run_gpu.sh."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import safetensors.torch

FIRST_STEP_RELATIVE, WEIGHT_ABSOLUTE = 1e-5, 5e-5
STRATEGIES = {
    "ddp": ["--train.strategy=ddp"],
    "fsdp": ["--train.strategy=fsdp"],
    "deepspeed 2": ["--train.strategy=deepspeed", "--train.deepspeed.stage=2"],
}


def train(run_dir: Path, ranks: int, device: str, steps: int, words: list[str]) -> str:
    """``fastvae train digits`` under torchrun; returns the end of what it said if it failed, else nothing."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    options = [f"--run-dir={run_dir}", f"--train.device={device}", f"--train.steps={steps}", "--train.final-samples=1"]
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # ninja, for DeepSpeed
    environment = {**os.environ, "PATH": tools, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    command = [*launcher, "-m", "fastvae", "train", "digits", *options, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr[-1500:]


def first_loss(run_dir: Path) -> float:
    """The loss of step 1, in nats."""
    return float(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[0])["loss_nats"])


def compare(run_dir: Path, single: Path) -> tuple[float, float]:
    """How far a run is from that of one process: the first loss, relative, and the farthest weight."""
    ours, theirs = (safetensors.torch.load_file(path / "model.safetensors") for path in (run_dir, single))
    farthest = max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
    return abs(first_loss(run_dir) / first_loss(single) - 1), farthest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    options = parser.parse_args()
    single, failed = options.folder / "single", []
    if said := train(single, 1, options.device, options.steps, ["--train.strategy=single"]):
        raise SystemExit(f"gpu_strategies.py: one process failed\n{said}")
    for name in options.strategies:
        if name.startswith("deepspeed") and importlib.util.find_spec("deepspeed") is None:
            print(f"--  {name}: deepspeed is not installed")
            continue
        for ranks in (1, 2):
            run_dir = options.folder / f"{name} {ranks}"
            said = train(run_dir, ranks, options.device, options.steps, STRATEGIES[name])
            relative, farthest = compare(run_dir, single) if not said else (float("inf"), float("inf"))
            holds = relative <= FIRST_STEP_RELATIVE and farthest <= WEIGHT_ABSOLUTE
            failed += [] if holds else [f"{name} on {ranks}"]
            shown = f"first loss off by {relative:.1e}, weights by {farthest:.1e} after {options.steps} steps"
            print(f"{'ok' if holds else 'FAILED'}  {name}, ranks {ranks}: {said or shown}", flush=True)
    if failed:
        raise SystemExit(f"gpu_strategies.py: {', '.join(failed)} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
