"""A user's VQ-VAE in plain PyTorch: it trains, logs its penalty, and reports no bound on a likelihood."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastvae
from fastvae import cli
from fastvae.commands.numbers import evaluation_table
from fastvae.data import Data, build_data
from fastvae.generative import AnyModel
from fastvae.run import LoadedRun


class VQVAE(nn.Module):
    """Van den Oord et al. 2017 (arXiv 1711.00937): straight-through codes, codebook and commitment losses."""

    estimates_elbo = False
    distortion_unit = "squared error"

    def __init__(self, num_codes: int = 32, code_dim: int = 8, commitment: float = 0.25) -> None:
        super().__init__()
        self.commitment, self.code_dim = commitment, code_dim
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4 * code_dim))
        self.decoder = nn.Sequential(nn.Linear(4 * code_dim, 64), nn.ReLU(), nn.Linear(64, 64))
        self.codes = nn.Embedding(num_codes, code_dim)

    def quantize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        vectors = features.unflatten(1, (4, self.code_dim))
        indices = torch.cdist(vectors, self.codes.weight).argmin(2)
        quantized = self.codes(indices)
        codebook = (quantized - vectors.detach()).square().sum((1, 2))
        commitment = (quantized.detach() - vectors).square().sum((1, 2))
        return vectors + (quantized - vectors).detach(), codebook + self.commitment * commitment

    def encode(self, batch: fastvae.Batch) -> Tensor:
        return self.quantize(self.encoder(batch.x.flatten(1)))[0].flatten(1)

    def reconstruct(self, batch: fastvae.Batch) -> Tensor:
        return self.decoder(self.encode(batch)).view_as(batch.target)

    def forward(self, batch: fastvae.Batch, noise_key: Tensor) -> fastvae.VAETerms:
        code, penalty = self.quantize(self.encoder(batch.x.flatten(1)))
        reconstruction = self.decoder(code.flatten(1)).view_as(batch.target)
        distortion = (reconstruction - batch.target).square().flatten(1).sum(1)
        return fastvae.VAETerms(
            z=code,
            rate=torch.zeros_like(distortion),
            distortion=distortion,
            penalty=penalty,
            reconstruction=reconstruction,
        )


@pytest.fixture(scope="module")
def digits() -> Data:
    return build_data(fastvae.DataConfig(name="digits"), 0)


@pytest.fixture(scope="module")
def trained(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> fastvae.Run:
    torch.manual_seed(0)
    config = fastvae.TrainConfig(
        steps=150, lr=3e-3, global_batch_size=64, log_every=50, eval_every=100, final_samples=10, device="cpu"
    )
    directory = tmp_path_factory.mktemp("vqvae")
    with contextlib.redirect_stderr(io.StringIO()) as lines:
        run = fastvae.train(VQVAE(), digits, config, run_dir=directory)
    (directory / "stderr.txt").write_text(lines.getvalue())
    return run


def test_the_model_trains_and_logs_its_penalty(trained: fastvae.Run) -> None:
    records = [json.loads(line) for line in (trained.directory / "metrics.jsonl").read_text().splitlines()]
    train = [record for record in records if record["kind"] == "train"]
    assert train[-1]["squared_error"] < 0.7 * train[0]["squared_error"]
    assert all(record["penalty"] > 0 for record in records)
    assert trained.evaluation is not None
    assert trained.evaluation.num_samples == 1
    assert trained.evaluation.penalty == pytest.approx(train[-1]["penalty"], rel=0.3)


def test_no_elbo_and_no_nll_is_written_anywhere(trained: fastvae.Run) -> None:
    files = [trained.directory / name for name in ("metrics.jsonl", "evaluation.json", "status.json", "stderr.txt")]
    assert trained.evaluation is not None
    texts = {path.name: path.read_text() for path in files} | {"table": evaluation_table(trained.evaluation.known())}
    assert "penalty" in texts["stderr.txt"]
    for name, text in texts.items():
        assert text
        assert not [word for word in ("elbo", "nll", "bits_per_dim") if word in text.lower()], name
    assert (trained.directory / "curves.png").is_file()


def loaded(trained: fastvae.Run, data: Data) -> LoadedRun:
    config = fastvae.RunConfig(
        data=fastvae.DataConfig(name="digits"), model=fastvae.ModelConfig(), train=fastvae.TrainConfig()
    )
    device = torch.device("cpu")
    return LoadedRun(directory=trained.directory, config=config, data=data, model=trained.model.eval(), device=device)


def test_the_sample_command_is_refused(
    trained: fastvae.Run, digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sample", str(trained.directory)]) == 2
    assert "the run was started from Python" in capsys.readouterr().err
    monkeypatch.setattr(fastvae.run, "load", lambda *_, **__: loaded(trained, digits))
    assert cli.main(["sample", str(trained.directory)]) == 2
    assert "VQVAE has no draw_prior: it cannot sample; a VAE can" in capsys.readouterr().err


def test_unsupported_methods_are_refused_by_name(trained: fastvae.Run, digits: Data) -> None:
    run = loaded(trained, digits)
    with pytest.raises(ValueError, match=r"VQVAE has no draw_prior: it cannot sample; a VAE can"):
        run.sample(4)
    with pytest.raises(ValueError, match=r"VQVAE estimates no ELBO: it cannot be scored with num_samples=5"):
        run.score(num_samples=5)
    assert run.score().mean() == pytest.approx(run.evaluate().squared_error, rel=1e-5)
    assert run.encode()["mu"].shape == (len(digits.test), 32)


def test_samples_and_free_bits_require_a_forward_with_a_draw(digits: Data, tmp_path: Path) -> None:
    for objective in (fastvae.ObjectiveConfig(num_samples=5), fastvae.ObjectiveConfig(free_bits=0.1)):
        config = fastvae.TrainConfig(steps=1, objective=objective, device="cpu")
        with pytest.raises(ValueError, match=r"a model with forward\(batch, noise_key, draw\), got VQVAE"):
            fastvae.train(VQVAE(), digits, config, run_dir=tmp_path)


def test_contradictory_declarations_are_refused() -> None:
    model = VQVAE()
    model.estimates_elbo = True
    with pytest.raises(ValueError, match=r"a squared error must set estimates_elbo = False"):
        AnyModel(model)
    model.distortion_unit = "furlongs"
    with pytest.raises(ValueError, match=r"distortion_unit must be 'nats' or 'squared error', got 'furlongs'"):
        AnyModel(model)
