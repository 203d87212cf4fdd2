"""Train a small model for each job on the command line; rank 0 also writes the noise of its rows.

A job is a dict: ``run`` (a directory), ``settings`` (of TrainConfig), optionally ``poison_step`` (the last rank makes
its loss of that step a NaN) and ``drift_step`` (the last rank changes one of its weights in that step).
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import dacite
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn

import fastvae
from fastvae.distributed import World, enter_world
from fastvae.ops import philox_integers
from fastvae.records import Draw
from fastvae.train import contract, loop, trainer

BASE = {
    "steps": 8,
    "lr": 1e-3,
    "schedule": "constant",
    "global_batch_size": 16,
    "log_every": 1,
    "checkpoint_every": None,
    "final_samples": 1,
    "ema": 0.9,
    "device": "cpu",
}
LATENT_DIM = 6


class RecordingVAE(fastvae.VAE):
    """A VAE whose forward records the noise integers of its training rows, by step and row."""

    noise: dict[tuple[int, int], Tensor] = {}  # noqa: RUF012 (shared on purpose: strategies train a copy of the model)
    poison_step: int | None = None
    drift_step: int | None = None

    def forward(self, batch: Any, noise_key: Tensor, draw: Draw = Draw()) -> fastvae.VAETerms:
        terms = super().forward(batch, noise_key, draw)
        if torch.compiler.is_compiling() or draw.evaluation or not torch.is_grad_enabled():
            return terms
        _, step, first_row = noise_key.tolist()
        for row, words in enumerate(philox_integers(noise_key, len(batch.x), LATENT_DIM)):
            self.noise[step, first_row + row] = words
        if step == self.poison_step:
            terms.distortion.mul_(float("nan"))
        if step == self.drift_step:
            with torch.no_grad():
                self.decoder.output.bias[3] += 1e-7
        return terms


def build(data: fastvae.Data) -> nn.Module:
    model_config = fastvae.ModelConfig(hidden_dim=(24, 16), latent_dim=LATENT_DIM, likelihood="gaussian")
    model = fastvae.build_model(model_config, data.event_shape, seed=3)
    return RecordingVAE(model.encoder, model.decoder, model.likelihood, LATENT_DIM)


def check_contract(*arguments: Any, **options: Any) -> tuple[str, ...]:
    """Check the model as in every run, and forget the noise of this forward pass, which is not a step's."""
    notes = contract.check_contract(*arguments, **options)
    RecordingVAE.noise.clear()
    return notes


def run_job(job: dict[str, Any], data: fastvae.Data, world: World) -> None:
    RecordingVAE.noise.clear()
    is_last = world.rank == world.world_size - 1
    RecordingVAE.poison_step = job.get("poison_step") if is_last else None
    RecordingVAE.drift_step = job.get("drift_step") if is_last else None
    config = dacite.from_dict(fastvae.TrainConfig, {**BASE, **job["settings"]}, dacite.Config(strict=True))
    run = fastvae.train(build(data), data, config, run_dir=job["run"], seed=3)
    noise = torch.zeros(config.steps, config.global_batch_size, LATENT_DIM, dtype=torch.int64)
    for (step, row), words in RecordingVAE.noise.items():
        noise[step, row] = words
    if world.world_size > 1:
        dist.all_reduce(noise)
    weights = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
    if world.is_main:
        safetensors.torch.save_file({"noise": noise}, run.directory / "noise.safetensors")
        safetensors.torch.save_file(weights, run.directory / "left_in_the_model.safetensors")


def refuse(*arguments: object, **options: object) -> None:
    raise AssertionError("something was unpickled")


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    trainer.check_contract = check_contract
    loop.write_pictures = lambda *_: None  # slow, and not tested here
    with enter_world("cpu", timeout_s=120) as world:
        data = fastvae.build_data(fastvae.DataConfig(name="digits"), 3)
        generator_state = torch.get_rng_state()
        for job in jobs:
            with (
                mock.patch.object(pickle, "load", refuse),
                mock.patch.object(pickle, "loads", refuse),
                mock.patch.object(torch, "load", refuse),
            ):
                run_job(job, data, world)
        if not torch.equal(generator_state, torch.get_rng_state()):
            raise AssertionError("training moved the global generator")


if __name__ == "__main__":
    main()
