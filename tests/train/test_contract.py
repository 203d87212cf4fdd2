"""Contracts of user modules are checked on two examples before the first step."""

from __future__ import annotations

import copy
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastvae
from fastvae.train.contract import check_contract
from tests import runs

EXAMPLES = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))


ONE = fastvae.Draw()


class Encoder(nn.Module):
    """Two linear maps, whose results a test may change."""

    def __init__(self, change: Any = lambda mu, logvar: (mu, logvar), num_inputs: int = 6, latent_dim: int = 3) -> None:
        super().__init__()
        self.mu, self.logvar = (nn.Linear(num_inputs, latent_dim) for _ in range(2))
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.mu(x), self.logvar(x))


class Bound:
    def __init__(self, mean: Tensor, change: Any) -> None:
        self.mean, self.change = mean, change

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Any:
        return self.change(-(target - self.mean).square())


class Distance(nn.Module):
    """A likelihood of the user's."""

    def __init__(self, change: Any = lambda x: x.flatten(-1).sum(-1)) -> None:
        super().__init__()
        self.change = change

    def forward(self, output: Tensor) -> Any:
        return Bound(output, self.change)


class NoLogProb(nn.Module):
    def forward(self, output: Tensor) -> Any:
        return output


def vae(encoder: nn.Module | None = None, decoder: nn.Module | None = None, likelihood: Any = None) -> fastvae.VAE:
    return fastvae.VAE(encoder or Encoder(), decoder or nn.Linear(3, 6), likelihood or fastvae.Gaussian())


class Own(nn.Module):
    """A whole model of the user's, whose terms a test may change."""

    def __init__(self, takes_draw: bool = False, **changes: Any) -> None:
        super().__init__()
        self.layer, self.changes = nn.Linear(6, 6), changes

    def forward(self, batch: fastvae.Batch, noise_key: Tensor, draw: fastvae.Draw = ONE) -> Any:
        error = (self.layer(batch.x) - batch.target).square()
        shape = (len(batch),) if draw.num_samples == 1 else (draw.num_samples, len(batch))
        terms = {"z": error.expand(*shape, 6), "rate": torch.zeros(shape), "distortion": error.sum(1).expand(shape)}
        return fastvae.VAETerms(**{**terms, **{name: change(error) for name, change in self.changes.items()}})


class Alone(nn.Module):
    def forward(self, batch: fastvae.Batch, noise_key: Tensor) -> Any:
        return batch.x, noise_key


BROKEN = {
    "encoder input": (vae(Encoder(num_inputs=5)), r"encoder, which must read x \[2, 6\], raised RuntimeError"),
    "encoder alone": (vae(Encoder(lambda mu, _: mu)), r"pair of tensors \(mu, logvar\), .*got float32 \[2, 3\]"),
    "encoder three": (vae(Encoder(lambda mu, v: (mu, v, v))), r"pair of tensors .*got a tuple of 3"),
    "encoder shapes": (vae(Encoder(lambda mu, v: (mu, v[:, :2]))), r"got float32 \[2, 3\] and float32 \[2, 2\]"),
    "encoder finite": (vae(Encoder(lambda mu, v: (mu, v / 0))), r"encoder's logvar must be finite, got NaN or inf"),
    "encoder batch": (vae(Encoder(lambda mu, v: (mu.mean(0), v.mean(0)))), r"got float32 \[3\] and float32 \[3\]"),
    "decoder input": (vae(decoder=nn.Linear(4, 6)), r"decoder, which must read z \[2, 3\], raised RuntimeError"),
    "decoder size": (vae(decoder=nn.Linear(3, 5)), r"decoder must return 6 numbers .* Gaussian .*got \[5\]"),
    "likelihood object": (vae(likelihood=NoLogProb()), r"NoLogProb must return .*log_prob.*got float32 \[2, 6\]"),
    "likelihood shape": (vae(likelihood=Distance(lambda x: x)), r"one number for each example, \[B\], .*\[2, 6\]"),
    "terms": (Alone(), r"must return fastvae.VAETerms, got a tuple of 2"),
    "rate shape": (Own(rate=lambda e: e), r"rate must be \[B\].* got float32 \[2, 6\]"),
    "distortion mean": (Own(distortion=lambda e: e.mean()), r"distortion must be \[B\].* got float32 \[\]"),
    "distortion type": (Own(distortion=lambda e: e.sum(1).bfloat16()), r"distortion must be float32, got bfloat16"),
    "penalty": (Own(penalty=lambda e: e.sum()), r"penalty must be \[B\].* got float32 \[\]"),
    "z": (Own(z=lambda e: e[:1]), r"z must be \[B, \.\.\.\], got float32 \[1, 6\]"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_contract_is_refused_before_the_run_directory_is_filled(name: str, tmp_path: Path) -> None:
    model, words = BROKEN[name]
    with pytest.raises(ValueError, match=words) as caught:
        runs.train(tmp_path / "run", model, EXAMPLES, steps=2)
    assert all(line.startswith("train: ") for line in str(caught.value).splitlines())
    assert not [path.name for path in (tmp_path / "run").glob("[!.]*") if path.name != "run.lock"]


def test_each_broken_contract_has_a_line(tmp_path: Path) -> None:
    model = Own(rate=lambda e: e, penalty=lambda e: e.sum())
    with pytest.raises(ValueError, match="rate must be") as caught:
        runs.train(tmp_path, model, EXAMPLES, steps=2)
    assert ["rate" in line or "penalty" in line for line in str(caught.value).splitlines()] == [True] * 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": fastvae.ObjectiveConfig(num_samples=3)}, r"with K = 3 samples: rate must be \[K, B\]"),
        ({"final_samples": 5}, r"in evaluation with K = 2 samples: rate must be \[K, B\]"),
        ({"objective": fastvae.ObjectiveConfig(free_bits=0.1)}, r"rate_per_dimension must be .*\[D\].* got None"),
        (
            {"objective": fastvae.ObjectiveConfig(free_bits=0.1), "accumulation": 2},
            r"must have encode and kl_per_dimension",
        ),
    ],
)
def test_samples_and_rates_per_dimension_are_checked_where_the_settings_need_them(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    model = Own(rate=lambda e: e.sum(1)) if "free_bits" not in words else Own()
    with pytest.raises(ValueError, match=words):
        runs.train(tmp_path, model, EXAMPLES, steps=2, **settings)


def test_the_check_changes_nothing() -> None:
    model = vae(Encoder(num_inputs=6), nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)))
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    data, config = fastvae.data.as_data(EXAMPLES), fastvae.TrainConfig(steps=2, device="cpu")
    started = time.perf_counter()
    assert check_contract(model, data, config, seed=0, device=torch.device("cpu")) == ()
    assert time.perf_counter() - started < 2
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_the_latent_dimension_is_inferred(tmp_path: Path) -> None:
    model = vae(Encoder(latent_dim=3))
    assert model.latent_dim is None
    runs.train(tmp_path / "run", model, EXAMPLES, steps=2)
    assert model.latent_dim == 3
    assert model.sample(2, fastvae.noise_key(0)).shape == (2, 6)


def test_a_latent_of_several_dimensions_is_inferred(tmp_path: Path) -> None:
    encoder = Encoder(lambda mu, logvar: (mu.view(-1, 2, 1, 2), logvar.view(-1, 2, 1, 2)), latent_dim=4)
    model = vae(encoder, nn.Sequential(nn.Flatten(), nn.Linear(4, 6)))
    runs.train(tmp_path / "run", model, EXAMPLES, steps=2)
    assert model.latent_shape == (2, 1, 2)


def test_lazy_modules_get_their_weights_from_the_seed(tmp_path: Path) -> None:
    def lazy() -> fastvae.VAE:
        return vae(decoder=nn.LazyLinear(6), encoder=fastvae.MLPEncoder(6, 4, 3))

    data, config = fastvae.data.as_data(EXAMPLES), fastvae.TrainConfig(steps=2, device="cpu")
    found = []
    for seed in (1, 1, 2):
        model = lazy()
        generator = torch.get_rng_state()
        check_contract(model, data, config, seed=seed, device=torch.device("cpu"))
        assert torch.equal(generator, torch.get_rng_state())
        found.append(model.decoder.weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert runs.train(tmp_path / "run", lazy(), EXAMPLES, steps=2).status == "done"


def test_a_model_that_cannot_be_copied_trains_unchecked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = vae()
    model.lock = threading.Lock()
    assert runs.train(tmp_path / "run", model, EXAMPLES, steps=2).status == "done"
    assert (
        "contracts of the model are not checked before the first step: it cannot be copied" in capsys.readouterr().err
    )
