"""Train a small model once for each job on the command line, with faults in its numbers; write the results.

A job is a dict: ``run`` (a directory), ``settings`` (of TrainConfig), and ``faults``: a kind of fault by step, counted
from 0. A result is what each step did to the parameters, on any rank, and how the run ended on each rank.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import dacite
import torch
import torch.distributed as dist
from torch import Tensor, nn

import fastvae
from fastvae.distributed import World, enter_world
from fastvae.train import TrainingDiverged, loop, task

BASE = {
    "steps": 30,
    "schedule": "constant",
    "global_batch_size": 16,
    "log_every": 10,
    "checkpoint_every": None,
    "final_samples": 1,
    "device": "cpu",
    "guard": {"spike_window": 10, "stop_after": 3},
}


class FaultyLinear(nn.Linear):
    """A linear layer that divides by zero while enabled."""

    on = False

    def forward(self, x: Tensor) -> Tensor:
        result = super().forward(x)
        return result / 0 if self.on else result


class FaultyVAE(fastvae.VAE):
    """A VAE with invalid or large values at given steps; ``faults`` and ``is_last_rank`` are shared by all copies."""

    faults: dict[int, str] = {}  # noqa: RUF012
    is_last_rank = True

    def forward(self, batch: Any, noise_key: Tensor, *samples: int, **options: Any) -> fastvae.VAETerms:
        is_training = torch.is_grad_enabled() and not options.get("evaluation")
        fault = self.faults.get(int(noise_key[1])) if is_training else None
        if fault == "batch times 1e4":
            batch = replace(batch, x=batch.x * 1e4, target=batch.target * 1e4)
        if fault == "target times 1e3":
            batch = replace(batch, target=batch.target * 1e3)
        for module in self.modules():
            if isinstance(module, FaultyLinear):
                module.on = fault == "faulty module" and self.is_last_rank
        terms = super().forward(batch, noise_key, *samples, **options)
        if fault == "nan" and self.is_last_rank:
            terms.distortion.mul_(torch.nan)
        if fault == "infinite loss" and self.is_last_rank:
            terms.distortion.add_(torch.inf)  # its gradient stays finite
        return terms


def build(data: fastvae.Data) -> nn.Module:
    config = fastvae.ModelConfig(hidden_dim=(24, 16), latent_dim=4, likelihood="gaussian")
    model = fastvae.build_model(config, data.event_shape, seed=3)
    for sequence in [module for module in model.decoder.modules() if isinstance(module, nn.Sequential)]:
        for name, layer in sequence.named_children():
            if type(layer) is nn.Linear:
                faulty = FaultyLinear(layer.in_features, layer.out_features)
                faulty.load_state_dict(layer.state_dict())
                setattr(sequence, name, faulty)
                break
    return FaultyVAE(model.encoder, model.decoder, model.likelihood, 4)


def watched(changed: list[bool], train_step: Callable[..., Any]) -> Callable[..., Any]:
    """``train_step`` that also records whether any of this rank's parameters changed."""

    def step(strategy: Any, *arguments: Any, **options: Any) -> Any:
        before = {name: value.clone() for name, value in strategy.full_precision_parameters().items()}
        result = train_step(strategy, *arguments, **options)
        after = strategy.full_precision_parameters()
        changed.append(any(not torch.equal(after[name], before[name]) for name in before))
        return result

    return step


def run_job(job: dict[str, Any], data: fastvae.Data, world: World) -> dict[str, Any]:
    FaultyVAE.faults = {int(step): kind for step, kind in job["faults"].items()}
    FaultyVAE.is_last_rank = world.rank == world.world_size - 1
    config = dacite.from_dict(fastvae.TrainConfig, {**BASE, **job["settings"]}, dacite.Config(strict=True))
    changed: list[bool] = []
    ended = "done"
    with mock.patch.object(task, "train_step", watched(changed, task.train_step)):
        try:
            fastvae.train(build(data), data, config, run_dir=job["run"], seed=3)
        except TrainingDiverged as error:
            ended = str(error)
    return {"changed": changed, "ended": ended}


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    loop.write_pictures = lambda *_: None  # slow, and not tested here
    with enter_world("cpu", timeout_s=120) as world:
        data = fastvae.build_data(fastvae.DataConfig(name="digits"), 3)
        for job in jobs:
            result = run_job(job, data, world)
            Path(job["run"], f"rank_{world.rank}.json").write_text(json.dumps(result))
            if dist.is_initialized():
                dist.barrier()


if __name__ == "__main__":
    main()
