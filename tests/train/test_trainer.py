"""`fastvae.train` with users' own models and data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import fastvae
from fastvae.train import TrainingDiverged
from tests.runs import metrics

SMALL = fastvae.TrainConfig(steps=60, lr=1e-2, global_batch_size=16, final_samples=1, log_every=10, device="cpu")


class OwnModel(nn.Module):
    """A user's module with the required methods only."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 4)
        self.decoder = nn.Linear(2, 12)
        self.scale = scale

    def forward(self, batch: fastvae.Batch, noise_key: Tensor) -> fastvae.VAETerms:
        mu, logvar = self.encoder(batch.x.flatten(1)).chunk(2, dim=1)
        z, rate = fastvae.DiagonalGaussian(mu, logvar).rsample_kl(noise_key)
        error = (self.decoder(z) - batch.target.flatten(1)).square().sum(1) * self.scale
        return fastvae.VAETerms(z=z, rate=rate, distortion=error)


class OwnData(Dataset[Tensor]):
    """A user's indexable data set."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Tensor:
        return torch.linspace(-1, 1, 12).roll(index % 12).view(3, 4)


def losses(run_dir: Path) -> list[float]:
    return [record["loss_nats"] for record in metrics(run_dir, "train")]


def test_any_module_and_any_indexable_data(tmp_path: Path, pictures: None) -> None:
    run = fastvae.train(OwnModel(), OwnData(), SMALL, run_dir=tmp_path)
    assert run.status == "done"
    assert run.exit_code == 0
    assert run.evaluation is not None
    assert (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "curves.png").exists()
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]


@pytest.mark.parametrize("kind", ["array", "tensor", "pair of arrays"])
def test_arrays_are_data_too(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    data = {"array": array, "tensor": torch.from_numpy(array), "pair of arrays": (array, np.arange(40) % 3)}[kind]
    assert fastvae.train(OwnModel(), data, SMALL, run_dir=tmp_path).status == "done"


def test_a_seed_determines_a_run(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(0)
        fastvae.train(OwnModel(), OwnData(), SMALL, run_dir=tmp_path / name, seed=seed)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_a_diverged_run_fails_with_an_error(tmp_path: Path) -> None:
    model = OwnModel(scale=float("nan"))
    weight = model.decoder.weight.detach().clone()
    with pytest.raises(TrainingDiverged, match=r"not finite at the last 10 steps, up to step 10.*lower --train\.lr"):
        fastvae.train(model, OwnData(), SMALL, run_dir=tmp_path)
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "failed"
    assert "TrainingDiverged" in status["reason"]
    assert torch.equal(model.decoder.weight, weight)


def test_bf16_autocast_trains_and_is_close_to_fp32(tmp_path: Path) -> None:
    data = fastvae.build_data(fastvae.DataConfig(name="digits"), 0)
    results = {}
    for precision in ("fp32", "bf16"):
        model = fastvae.build_model(
            fastvae.ModelConfig(hidden_dim=(32,), latent_dim=4, likelihood="gaussian"), (1, 8, 8)
        )
        config = fastvae.TrainConfig(steps=60, precision=precision, final_samples=1, device="cpu")  # type: ignore[arg-type]
        results[precision] = fastvae.train(model, data, config, run_dir=tmp_path / precision).evaluation
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert results["fp32"] is not None
    assert results["bf16"] is not None
    assert results["bf16"].elbo_nats == pytest.approx(results["fp32"].elbo_nats, rel=0.02)
    assert results["bf16"].elbo_nats != results["fp32"].elbo_nats


@pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # torch.compile itself uses deprecated functions of torch
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++")
def test_compiled_steps_are_the_same_steps(tmp_path: Path) -> None:
    for name, compiled in (("eager", False), ("compiled", True)):
        torch.manual_seed(0)
        config = fastvae.TrainConfig(
            steps=5, global_batch_size=16, log_every=1, final_samples=1, compile=compiled, device="cpu"
        )
        fastvae.train(OwnModel(), OwnData(), config, run_dir=tmp_path / name)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-5)


def test_a_batch_larger_than_the_data_is_cut_to_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for batch_size in (45, 64):
        config = fastvae.TrainConfig(steps=2, global_batch_size=batch_size, device="cpu", final_samples=1)
        torch.manual_seed(0)
        runs.append(fastvae.train(OwnModel(), OwnData(), config, run_dir=tmp_path / str(batch_size)))
    assert "train.global_batch_size: 64 is more than the 45 training examples" in capsys.readouterr().err
    assert runs[0].evaluation == runs[1].evaluation
