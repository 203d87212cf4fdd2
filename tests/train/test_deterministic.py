"""Deterministic algorithms: enabled only while a run trains; cuBLAS's workspace is set before CUDA is first used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import fastvae
from fastvae.train import TrainingDiverged, loop
from fastvae.train.deterministic import WORKSPACE, fixed_workspace


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the figures: they are slow and not tested here."""
    monkeypatch.setattr(loop, "write_pictures", lambda *_: None)


class Watched(fastvae.VAE):
    """A model that records PyTorch's settings in its forward passes."""

    def forward(self, *arguments: object, **options: object) -> fastvae.VAETerms:
        self.seen = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
        return super().forward(*arguments, **options)  # type: ignore[arg-type]


def train(run_dir: Path, *, deterministic: bool) -> tuple[Watched, dict[str, Tensor]]:
    data = fastvae.build_data(fastvae.DataConfig(name="digits"), 0)
    built = fastvae.build_model(fastvae.ModelConfig(hidden_dim=(16,), latent_dim=4, likelihood="gaussian"), (1, 8, 8))
    model = Watched(built.encoder, built.decoder, built.likelihood, 4)
    config = fastvae.TrainConfig(steps=4, final_samples=1, device="cpu", deterministic=deterministic)
    fastvae.train(model, data, config, run_dir=run_dir)
    return model, load_file(run_dir / "model.safetensors")


def test_a_run_on_a_cpu_is_bit_equal_and_restores_the_settings(tmp_path: Path) -> None:
    plain, weights = train(tmp_path / "plain", deterministic=False)
    model, same = train(tmp_path / "deterministic", deterministic=True)
    assert plain.seen == (False, False)
    assert model.seen == (True, True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert yaml.safe_load((tmp_path / "deterministic" / "config.yaml").read_text())["train"]["deterministic"] is True


def test_the_settings_are_restored_after_an_error(tmp_path: Path) -> None:
    data = torch.full((40, 12), float("1e38"))  # squares overflow
    config = fastvae.TrainConfig(steps=4, final_samples=1, device="cpu", global_batch_size=8, deterministic=True)
    model = fastvae.VAE(fastvae.nn.MLPEncoder(12, 4, 2), fastvae.nn.MLPDecoder(2, 4, 12), fastvae.Gaussian())
    with pytest.raises(TrainingDiverged):
        fastvae.train(model, data, config, run_dir=tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def fresh_cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Pretend that the machine has a GPU and CUDA is not initialised."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    return monkeypatch


def test_the_cublas_workspace_is_set_during_the_run_only(fresh_cuda: pytest.MonkeyPatch) -> None:
    with fixed_workspace(True, "auto"):
        assert os.environ[WORKSPACE] == ":4096:8"
    assert WORKSPACE not in os.environ
    for wanted, device in ((False, "cuda"), (True, "cpu")):
        with fixed_workspace(wanted, device):
            assert WORKSPACE not in os.environ
    fresh_cuda.setenv(WORKSPACE, ":16:8")
    with fixed_workspace(True, "cuda"):
        assert os.environ[WORKSPACE] == ":16:8"
    assert os.environ[WORKSPACE] == ":16:8"


def test_an_invalid_or_late_workspace_is_refused(fresh_cuda: pytest.MonkeyPatch) -> None:
    fresh_cuda.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match=f"{WORKSPACE} before CUDA is first used"), fixed_workspace(True, "cuda"):
        pass
    fresh_cuda.setenv(WORKSPACE, ":0:0")
    with pytest.raises(ValueError, match=r"got ':0:0'"), fixed_workspace(True, "cuda"):
        pass
