"""Train digits on the GPU and hold it against the CPU: part of run_gpu.sh."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import safetensors.torch
import torch

from fastvae import ops

FIRST_STEP_RELATIVE = 1e-5
RECIPE = "digits"


def train(folder: Path, name: str, device: str, *options: str, says: str = "") -> Path:
    """``fastvae train digits`` in a process of its own, which must say ``says``; returns the run directory."""
    run_dir = folder / name
    words = [f"--run-dir={run_dir}", f"--train.device={device}", "--train.final-samples=10", *options]
    environment = {**os.environ, "WORLD_SIZE": "1", "RANK": "0"}
    command = [sys.executable, "-m", "fastvae", "train", RECIPE, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or says not in done.stdout + done.stderr:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
        raise SystemExit(
            f"gpu_train.py: {name} ended with {done.returncode}" + (f" or did not say {says!r}" if says else "")
        )
    return run_dir


def lines(run_dir: Path, kind: str) -> list[dict[str, float]]:
    """The records of metrics.jsonl of one kind."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def check_noise(device: str) -> None:
    """Counter-based noise: the same integers on both."""
    key = ops.noise_key(11, step=2, first_row=2**32 - 100)
    there = ops.philox_integers(key.to(device), 1000, 333, stream=ops.stream(ops.Use.LATENT)).cpu()
    verdict("noise integers", torch.equal(there, ops.philox_integers(key, 1000, 333)), "1000 x 333 words")


def check_first_step(first: dict[str, float], on_cpu: dict[str, float]) -> None:
    """The loss of step 1, before any weight has moved."""
    relative = abs(first["loss_nats"] / on_cpu["loss_nats"] - 1)
    shown = f"{first['loss_nats']:.6f} and {on_cpu['loss_nats']:.6f} nats, relative {relative:.1e}"
    verdict("first-step loss", relative <= FIRST_STEP_RELATIVE, shown)


def check_resume(folder: Path, device: str, steps: int) -> None:
    """A run that was stopped at half its steps and went on, against one that never stopped."""
    options = [f"--train.steps={steps}", f"--train.checkpoint-every={steps // 2}"]
    straight = train(folder, "straight", device, *options)
    resumed = folder / "resumed"
    train(folder, "resumed", device, *options)
    checkpoints = sorted((resumed / "checkpoints").glob("step_*"))
    if len(checkpoints) != 2:
        raise SystemExit(f"gpu_train.py: expected checkpoints at {steps // 2} and {steps}, found {checkpoints}")
    for path in sorted(checkpoints[-1].iterdir()):
        path.unlink()
    checkpoints[-1].rmdir()
    (resumed / "model.safetensors").unlink()
    train(folder, "resumed", device, *options, says=f"from the checkpoint of step {steps // 2}")
    weights = [safetensors.torch.load_file(run / "model.safetensors") for run in (straight, resumed)]
    equal = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    verdict(
        "resume", equal and weights[0].keys() == weights[1].keys(), f"from step {steps // 2} of {steps}, bit for bit"
    )


def verdict(what: str, holds: bool, detail: str) -> None:
    """Print one check; end the process where it fails."""
    print(f"{'ok' if holds else 'FAILED'}  {what}: {detail}", flush=True)
    if not holds:
        raise SystemExit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    check_noise(options.device)
    steps = f"--train.steps={options.steps}"
    on_cpu = train(options.folder, "cpu", "cpu", "--train.steps=2", "--train.eval-every=None")
    kinds: dict[str, list[str]] = {"fp32": []}
    if options.device == "cuda":
        kinds |= {"bf16": ["--train.precision=bf16"], "captured": ["--train.capture"]}
    for name, words in kinds.items():
        run_dir = train(options.folder, name, options.device, steps, *words)
        final, speed = lines(run_dir, "final")[-1], lines(run_dir, "train")[-1]["examples_per_s"]
        print(f"ok  {name}: {options.steps} steps, ELBO {final['elbo_nats']:.3f} nats, {speed:,.0f} examples/s")
        if name != "bf16":
            check_first_step(lines(run_dir, "train")[0], lines(on_cpu, "train")[0])
    check_resume(options.folder, options.device, min(options.steps, 200))
    return 0


if __name__ == "__main__":
    sys.exit(main())
