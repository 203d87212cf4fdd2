from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastvae import ModelConfig, build_model, noise_key
from fastvae.data.interactions.source import InteractionSource
from fastvae.models import MultDAE, MultVAE, RecommenderConfig
from fastvae.records import Batch, Draw

CONFIG = ModelConfig(
    family="recommender",
    network="mult-vae",
    likelihood="multinomial",
    hidden_dim=(16,),
    latent_dim=4,
    activation="tanh",
)


@pytest.fixture
def counts() -> Tensor:
    users, items = torch.arange(40).repeat_interleave(6), (torch.arange(240) * 7) % 30
    return InteractionSource.from_pairs(users, items, 40, 30)[torch.arange(40)]


def model_of(network: str) -> MultVAE | MultDAE:
    model = build_model(replace(CONFIG, network=network), (30,))
    assert isinstance(model, MultVAE | MultDAE)
    return model


def test_the_registry_builds_mult_vae_and_mult_dae(counts: Tensor) -> None:
    assert isinstance(model_of("mult-vae"), MultVAE)
    assert isinstance(model_of("mult-dae"), MultDAE)


@pytest.mark.parametrize("network", ["mult-vae", "mult-dae"])
def test_items_are_dropped_in_training_only(network: str, counts: Tensor) -> None:
    model, batch = model_of(network), Batch(x=counts, target=counts)
    terms = [model(batch, noise_key(0, step)).distortion for step in (1, 1, 2)]
    assert torch.equal(terms[0], terms[1])
    assert not torch.equal(terms[0], terms[2])
    model.eval()
    means = [model.reconstruct(counts), model.reconstruct(counts.to_dense())]
    torch.testing.assert_close(means[0], means[1])
    torch.testing.assert_close(means[0].sum(1), torch.ones(40))


@pytest.mark.parametrize("network", ["mult-vae", "mult-dae"])
def test_a_few_steps_increase_the_likelihood(network: str, counts: Tensor) -> None:
    model = model_of(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        terms = model(counts, noise_key(0, step))
        loss = (terms.distortion + 0.2 * terms.rate).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_several_samples_require_a_vae(counts: Tensor) -> None:
    terms = model_of("mult-vae").eval()(counts, noise_key(0), Draw(3))
    assert terms.rate.shape == terms.distortion.shape == (3, 40)
    with pytest.raises(ValueError, match="MultDAE: is deterministic"):
        model_of("mult-dae")(counts, noise_key(0), Draw(3))


def test_dropout_is_checked() -> None:
    with pytest.raises(ValueError, match="dropout must be in"):
        RecommenderConfig(dropout=1.0)
