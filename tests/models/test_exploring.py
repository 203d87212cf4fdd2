"""A VAE samples, interpolates, traverses and scores in a notebook, without a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import fastvae
from tests import runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> fastvae.LoadedRun:
    directory = tmp_path_factory.mktemp("exploring") / "run"
    words = "--train.steps 20 --train.final-samples 1 --model.hidden-dim 16 --model.latent-dim 4"
    assert fastvae.cli.main(["train", "digits", f"--run-dir={directory}", *words.split()]) == 0  # type: ignore[attr-defined]
    return fastvae.load(directory)


@pytest.fixture
def vae(finished: fastvae.LoadedRun) -> fastvae.VAE:
    assert isinstance(finished.model, fastvae.VAE)
    return finished.model


def test_samples_are_those_of_the_run(finished: fastvae.LoadedRun, vae: fastvae.VAE) -> None:
    assert torch.equal(vae.sample(3), finished.sample(3))
    assert torch.equal(vae.sample(3, seed=5), finished.sample(3, seed=5))
    assert not torch.equal(vae.sample(3, seed=5), vae.sample(3))
    assert torch.equal(vae.sample(3, fastvae.noise_key(5)), vae.sample(3, seed=5))


def test_scores_are_those_of_the_run(finished: fastvae.LoadedRun, vae: fastvae.VAE) -> None:
    x = torch.cat([keyed.batch.x for keyed in finished.batches()])
    torch.testing.assert_close(vae.score(x), finished.score())
    torch.testing.assert_close(vae.score(x, num_samples=3), finished.score(num_samples=3))
    torch.testing.assert_close(vae.score(x[:7]), vae.score(x)[:7])  # matrix products round differently
    assert not torch.equal(vae.score(x, seed=1), vae.score(x))
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        vae.score(x, num_samples=0)


def test_interpolations_and_traversals_are_those_of_the_run(finished: fastvae.LoadedRun, vae: fastvae.VAE) -> None:
    x = finished.batch(torch.tensor([4, 9])).x
    torch.testing.assert_close(vae.interpolate(x[0], x[1], 5), finished.interpolate(4, 9, steps=5))
    rows = vae.traverse(x[0], [2, 0], num=5, span=2.0)
    assert rows.shape[:2] == (2, 5)
    torch.testing.assert_close(rows[0, 2], vae.reconstruct(x[:1])[0])
    z = vae.encode(x[:1]).mu.clone()
    z[0, 2] += 2.0
    torch.testing.assert_close(rows[0, -1], vae.generate(z)[0])
    assert len(vae.traverse(x[0])) == 4
    with pytest.raises(ValueError, match=r"dims must be in 0 \.\. 3, at least one, got \[4\]"):
        vae.traverse(x[0], [1, 4])


def test_conditions_follow_the_examples(tmp_path: Path) -> None:
    data = fastvae.build_data(fastvae.DataConfig(name="digits", condition=("label",)), 0)
    config = fastvae.ModelConfig(hidden_dim=(16,), latent_dim=3)
    model = fastvae.build_model(config, data.model_inputs, seed=0)
    assert isinstance(model, fastvae.VAE)
    one, other = (fastvae.data.load_examples(data.test, data.preprocess, torch.tensor([i]), seed=0) for i in (1, 2))
    row = model.interpolate(one, other, 3)
    torch.testing.assert_close(row[[0, -1]], torch.cat([model.reconstruct(one), model.reconstruct(other)]))
    assert len(model.traverse(one, [0], num=3)[0]) == 3


def test_modes_are_kept_and_dropout_is_off() -> None:
    encoder = nn.Sequential(nn.Dropout(0.5), fastvae.MLPEncoder(6, 4, 2))
    model = fastvae.VAE(encoder, fastvae.MLPDecoder(2, 4, 6), fastvae.Gaussian(), 2)
    model.decoder.eval()
    x = torch.rand(5, 6)
    assert torch.equal(model.score(x), model.score(x))
    assert model.training
    assert not model.decoder.training
    assert runs.small_vae().sample(2).shape[0] == 2
