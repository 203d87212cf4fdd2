"""Train small models under this world size with several splits of the global batch; rank 0 writes the results."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist

import fastvae
from fastvae.data import Loader
from fastvae.distributed import enter_world
from fastvae.ops import philox_integers
from fastvae.train import loop

OBJECTIVES = {
    "elbo": fastvae.ObjectiveConfig(),
    "free-bits": fastvae.ObjectiveConfig(free_bits=0.05),
    "iwae": fastvae.ObjectiveConfig(num_samples=3),
}
BASE = fastvae.TrainConfig(
    steps=40, lr=1e-3, log_every=1, checkpoint_every=None, final_samples=1, max_grad_norm=1.0, device="cpu"
)


def train_all(out: Path, data: fastvae.Data, accumulations: list[int], batch_sizes: list[int]) -> None:
    model_config = fastvae.ModelConfig(hidden_dim=(32,), latent_dim=6, likelihood="gaussian")
    for name, objective in OBJECTIVES.items():
        for accumulation in accumulations:
            for batch_size in batch_sizes:
                model = fastvae.build_model(model_config, data.event_shape, seed=3)
                config = replace(BASE, objective=objective, accumulation=accumulation, global_batch_size=batch_size)
                fastvae.train(model, data, config, run_dir=out / f"{name}_{accumulation}_{batch_size}", seed=3)


def gather_noise(data: fastvae.Data, accumulation: int) -> torch.Tensor:
    """Return the noise integers of all ranks' micro-batches of one step, in the order of their rows: [10, 5]."""
    rank, size = dist.get_rank() if dist.is_initialized() else 0, dist.get_world_size() if dist.is_initialized() else 1
    loader = Loader(
        data.train, data.preprocess, global_batch_size=10, seed=3, rank=rank, world_size=size, accumulation=accumulation
    )
    noise = torch.zeros(10, 5, dtype=torch.int64)
    for micro in loader.load(7):
        noise[micro.first_row : micro.first_row + micro.size] = philox_integers(micro.key, micro.size, 5)
    if size > 1:
        dist.all_reduce(noise)
    return noise


def main() -> None:
    out = Path(sys.argv[1])
    loop.write_pictures = lambda *_: None  # slow, and not tested here
    accumulations, batch_sizes = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    with enter_world("cpu", timeout_s=120) as world:
        data = fastvae.build_data(fastvae.DataConfig(name="digits"), 3)
        generator_state = torch.get_rng_state()
        train_all(out, data, accumulations, batch_sizes)
        noise = {str(accumulation): gather_noise(data, accumulation) for accumulation in accumulations}
        if not torch.equal(generator_state, torch.get_rng_state()):
            raise AssertionError("training moved the global generator")
        if world.is_main:
            safetensors.torch.save_file(noise, out / "noise.safetensors")


if __name__ == "__main__":
    main()
