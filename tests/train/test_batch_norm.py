"""A user's model with BatchNorm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastvae


class Encoder(nn.Module):
    latent_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.layers(x).chunk(2, dim=1)


def train(run_dir: Path, batch_size: int, accumulation: int = 1) -> fastvae.Run:
    decoder = fastvae.MLPDecoder(2, 8, output_dim=8)
    model = fastvae.VAE(Encoder(), decoder, fastvae.Gaussian())
    config = fastvae.TrainConfig(
        steps=2, global_batch_size=batch_size, accumulation=accumulation, device="cpu", final_samples=1
    )
    return fastvae.train(model, torch.randn(40, 8), config, run_dir=run_dir)


def test_a_run_says_that_its_result_depends_on_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, 8).status == "done"
    assert "BatchNorm (encoder.layers.1): its statistics depend on how a batch is split" in capsys.readouterr().err


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 1), (3, 2)])
def test_a_micro_batch_of_one_example_is_refused(tmp_path: Path, batch_size: int, accumulation: int) -> None:
    with pytest.raises(ValueError, match="needs at least 2 examples in every process and micro-batch, got 1"):
        train(tmp_path, batch_size, accumulation)
