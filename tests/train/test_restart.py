"""Autoencoder pre-training: the decoder is re-initialised at its step, with its first weights, also after a resume."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

import fastvae
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.objective import ObjectiveConfig, kl_weight_at
from fastvae.train import TrainConfig

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))


def start(run_dir: Path, *, steps: int = 40, schedule: Literal["cosine", "constant"] = "constant") -> dict[str, Tensor]:
    """Train (or resume) a small VAE whose decoder is re-initialised after step 20; return its last weights."""
    torch.manual_seed(0)
    model = fastvae.VAE(MLPEncoder(12, 8, 2), MLPDecoder(2, 8, 12), fastvae.Gaussian())
    config = TrainConfig(
        steps=steps,
        lr=1e-2,
        schedule=schedule,
        global_batch_size=16,
        final_samples=1,
        device="cpu",
        checkpoint_every=10,
        keep_checkpoints=9,
        objective=ObjectiveConfig(autoencoder_phase=20),
    )
    fastvae.train(model, X, config, run_dir=run_dir)
    return model.state_dict()


def test_the_kl_schedule_starts_after_autoencoder_pretraining() -> None:
    config = ObjectiveConfig(kl_schedule="linear", kl_warmup=10, autoencoder_phase=30)
    assert [kl_weight_at(config, step) for step in (0, 29, 30, 35, 40, 99)] == [0, 0, 0, 0.5, 1, 1]
    raised = replace(config, kl_weight=2.0, kl_weight_start=0.5)
    assert [kl_weight_at(raised, step) for step in (0, 29, 30, 35, 40)] == [0.5, 0.5, 0.5, 1.25, 2.0]
    cyclical = ObjectiveConfig(kl_schedule="cyclical", kl_warmup=5, kl_cycle=10, autoencoder_phase=3)
    assert [kl_weight_at(cyclical, step) for step in (3, 8, 13, 14)] == pytest.approx([0, 1, 0, 0.2])


@pytest.mark.parametrize("step", [10, 20, 30])  # before the restart, where it is due, and after it
def test_a_resumed_run_is_bit_equal(tmp_path: Path, step: int) -> None:
    whole = start(tmp_path / "whole")
    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "whole", resumed)
    for path in resumed.glob("checkpoints/step_*"):
        if int(path.name.removeprefix("step_")) > step:
            shutil.rmtree(path)
    for name, value in start(resumed).items():
        assert torch.equal(value, whole[name]), name


def test_the_decoder_is_reinitialised_and_the_encoder_is_kept(tmp_path: Path) -> None:
    """One step at the end of the cosine, where the learning rate is almost 0, shows the weights after the restart."""
    torch.manual_seed(0)
    first = fastvae.VAE(MLPEncoder(12, 8, 2), MLPDecoder(2, 8, 12), fastvae.Gaussian()).state_dict()
    last = start(tmp_path, steps=21, schedule="cosine")
    change = {name: float((value - first[name]).abs().max()) for name, value in last.items()}
    assert all(size < 1e-3 for name, size in change.items() if not name.startswith("encoder."))
    assert all(size > 1e-2 for name, size in change.items() if name.startswith("encoder."))


def test_pretraining_is_refused_under_deepspeed() -> None:
    with pytest.raises(ValueError, match="autoencoder_phase is not supported by strategy deepspeed"):
        TrainConfig(strategy="deepspeed", objective=ObjectiveConfig(autoencoder_phase=5))
    with pytest.raises(ValueError, match="must be a number of steps such as 1000"):
        ObjectiveConfig(autoencoder_phase=-1)
