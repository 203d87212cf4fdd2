"""Train the small adversarial task once for each job on the command line.

A job is a dict: ``run`` (a directory), ``settings`` (of TrainConfig), optionally ``poison`` (the last rank makes each
player's loss a NaN in one step) and ``adaptive`` (False for a weight of 1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dacite
import safetensors.torch
import torch

import fastvae
from fastvae.distributed import World, enter_world
from fastvae.train import OptimConfig, loop
from tests.distributed.adversary import AdversarialTask, Discriminator, SmallVAE

BASE = {
    "steps": 6,
    "lr": 2e-3,
    "schedule": "constant",
    "global_batch_size": 16,
    "log_every": 1,
    "checkpoint_every": None,
    "final_samples": 1,
    "ema": 0.9,
    "device": "cpu",
}
POISONED = {"generator": 2, "discriminator": 4}


def run_job(job: dict[str, Any], data: fastvae.Data, world: World) -> None:
    torch.manual_seed(3)
    is_last = world.rank == world.world_size - 1
    poison = {name: [step] for name, step in POISONED.items() if is_last and job.get("poison")}
    discriminator = Discriminator(64)
    # While no score reaches the hinge, the gradients of some biases are 0 except for round-off: with a small adam_eps
    # Adam would scale that up to whole steps, and no two splits of a batch would agree.
    optim = OptimConfig(lr=5e-3, beta1=0.5, schedule="constant", max_grad_norm=2.0, weight_decay=0.01, adam_eps=1e-3)
    task = AdversarialTask(
        discriminator, optim, adaptive=job.get("adaptive", True), poison=poison.get("discriminator", ())
    )
    config = dacite.from_dict(fastvae.TrainConfig, {**BASE, **job["settings"]}, dacite.Config(strict=True))
    model = SmallVAE(64, poison.get("generator", ()))
    try:
        run = fastvae.train(model, data, config, task=task, run_dir=job["run"], seed=3)
    except ValueError as error:
        Path(job["run"]).mkdir(parents=True, exist_ok=True)
        Path(job["run"], f"refused_{world.rank}.txt").write_text(str(error))
        return
    weights = {f"generator.{name}": value.detach().clone() for name, value in run.model.state_dict().items()}
    weights |= {f"discriminator.{name}": value.detach().clone() for name, value in discriminator.state_dict().items()}
    weights["real_level"] = task.real_level
    safetensors.torch.save_file(weights, run.directory / f"last_{world.rank}.safetensors")


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    loop.write_pictures = lambda *_: None  # slow, and not tested here
    with enter_world("cpu", timeout_s=120) as world:
        data = fastvae.build_data(fastvae.DataConfig(name="digits"), 3)
        generator_state = torch.get_rng_state()
        for job in jobs:
            torch.set_rng_state(generator_state)
            run_job(job, data, world)


if __name__ == "__main__":
    main()
