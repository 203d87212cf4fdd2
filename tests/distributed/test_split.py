"""Loss, gradient, noise and weights do not depend on how a global batch is split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.faults.program import Program
from tests.once import once
from tests.runs import metrics

WORKER = Path(__file__).with_name("split_worker.py")
WORLDS = {1: [1, 4], 2: [1, 4], 3: [1]}  # world size: micro-batches per step
BATCHES = [10, 32]  # 10 examples on 3 ranks: 4, 3 and 3
SPLITS = [
    (world_size, accumulation, batch_size)
    for world_size, accumulations in WORLDS.items()
    for accumulation in accumulations
    for batch_size in BATCHES
    if (world_size, accumulation) != (1, 1)
]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    return once(tmp_path_factory, "split", lambda root: make_runs(program, root))


def make_runs(program: Program, root: Path) -> None:
    for world_size, accumulations in WORLDS.items():
        out = root / str(world_size)
        out.mkdir()
        arguments = (str(out), json.dumps(accumulations), json.dumps(BATCHES))
        program.run_script(WORKER, *arguments, folder=root, ranks=world_size)


@pytest.mark.parametrize("objective", ["elbo", "free-bits", "iwae"])
@pytest.mark.parametrize(("world_size", "accumulation", "batch_size"), SPLITS)
def test_the_split_does_not_change_the_training_run(
    runs: Path, objective: str, world_size: int, accumulation: int, batch_size: int
) -> None:
    whole = runs / "1" / f"{objective}_1_{batch_size}"
    split = runs / str(world_size) / f"{objective}_{accumulation}_{batch_size}"
    first_whole, first_split = metrics(whole, "train")[0], metrics(split, "train")[0]
    for name in ("loss_nats", "elbo_nats", "rate_nats", "distortion_nats", "grad_norm"):
        assert first_split[name] == pytest.approx(first_whole[name], rel=1e-6), name
    whole_weights = safetensors.torch.load_file(whole / "model.safetensors")
    split_weights = safetensors.torch.load_file(split / "model.safetensors")
    for name, weight in whole_weights.items():
        torch.testing.assert_close(split_weights[name], weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 4), (2, 1), (2, 4), (3, 1)])
def test_the_split_does_not_change_the_noise(runs: Path, world_size: int, accumulation: int) -> None:
    whole = safetensors.torch.load_file(runs / "1" / "noise.safetensors")["1"]
    split = safetensors.torch.load_file(runs / str(world_size) / "noise.safetensors")[str(accumulation)]
    assert torch.equal(whole, split)
    assert whole.unique().numel() == whole.numel()
