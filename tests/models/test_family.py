"""Declarations of families: refused combinations, presets, and a user's family and likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastvae import VAE, ModelConfig, build_model, likelihoods, models, noise_key
from fastvae.likelihoods import LIKELIHOODS, BoundGaussian, Likelihood
from fastvae.models import FAMILIES, Family, ModelInputs, Network, Networks, check_model, model_preset
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.recipes import RECIPES, find_recipe


@pytest.fixture
def registries() -> Iterator[None]:
    """Remove the registrations of a test afterwards."""
    kept = [(each, dict(each)) for each in (FAMILIES, LIKELIHOODS)]
    yield
    for registry, entries in kept:
        registry.clear()
        registry.update(entries)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        (
            {"network": "gru"},
            None,
            "gru is a network of family text, and the family is vae; choose mlp, conv or linear",
        ),
        ({"family": "autoencoder", "network": "conv"}, None, "conv is a network of family vae"),
        ({"likelihood": "tokens"}, None, "family vae requires bernoulli, .* or local-autoregressive, got tokens"),
        ({"family": "text", "network": "gru"}, None, "family text requires tokens, got bernoulli"),
        ({"network": "conv", "conditioning": "film"}, None, "film: network conv of family vae has no FiLM"),
        ({"hidden_dim": (), "conditioning": "film"}, None, r"at least one hidden layer, got model.hidden_dim=\(\)"),
        ({}, "text", "network mlp of family vae reads pixels, audio or table data, got text; set model.family to text"),
        (
            {"network": "conv"},
            "table",
            "network conv of family vae reads pixels or audio data, got table; choose another",
        ),
        ({}, "smells", "got smells; set model.family to none"),
    ],
)
def test_incompatible_options_are_refused(settings: dict[str, object], kind: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_model(ModelConfig(**settings), kind)  # type: ignore[arg-type]


def test_every_declared_combination_is_built() -> None:
    shapes = {"text": ModelInputs(event_shape=(9,), num_tokens=30), "recommender": ModelInputs(event_shape=(30,))}
    images = ModelInputs(event_shape=(1, 8, 8), num_levels=17)
    for family in FAMILIES.values():
        for network in family.networks:
            for likelihood in family.likelihoods or ("bernoulli",):
                config = model_preset(family.name, network=network, likelihood=likelihood)
                model = build_model(config, shapes.get(family.name, images))
                assert isinstance(model, VAE) == family.networks[network].has_rate


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_declared_combination(name: str) -> None:
    check_model(find_recipe(name).model)


def test_a_preset_is_a_named_size() -> None:
    small = model_preset("text", "small")
    assert (small.network, small.likelihood, small.hidden_dim, small.text.embedding_dim) == ("gru", "tokens", (64,), 32)
    assert model_preset("vae", "small", network="conv", latent_dim=3).latent_dim == 3
    every = [(f.name, n, p) for f in FAMILIES.values() for n, network in f.networks.items() for p in network.presets]
    for family, network, preset in every:
        check_model(model_preset(family, preset, network=network))
    with pytest.raises(ValueError, match="network mlp of family vae has small, base or large, got 'huge'"):
        model_preset("vae", "huge")


class Shifted(Likelihood):
    """A Gaussian of variance 1 whose decoder output has one number more than the event."""

    def forward(self, output: Tensor) -> BoundGaussian:
        return BoundGaussian(output[..., 1:], torch.zeros(()))

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (event_shape[0] + 1,)


def build_tiny(config: ModelConfig, inputs: ModelInputs) -> Networks:
    return Networks(
        MLPEncoder(inputs.event_numel, 4, config.latent_dim), MLPDecoder(config.latent_dim, 4, inputs.output_shape)
    )


@pytest.mark.usefixtures("registries")
def test_a_users_family_and_likelihood_are_built() -> None:
    tiny = Family(
        name="tiny",
        description="For a test.",
        build=build_tiny,
        networks={"four": Network()},
        likelihoods=("gaussian",),
        kinds=("pixels",),
    )
    models.register_family(tiny)
    models.register_likelihood("shifted", Shifted, families=("tiny", "vae"), options=("hidden_dim",))
    config = ModelConfig(family="tiny", network="four", likelihood="shifted", latent_dim=2)
    assert "hidden_dim" in models.used_options(config)
    for each in (config, replace(config, family="vae", network="mlp")):
        model = build_model(each, (5,), mean=torch.zeros(5))
        assert model(torch.rand(3, 5), noise_key(0)).distortion.shape == (3,)
    with pytest.raises(ValueError, match="the name 'tiny' is taken"):
        models.register_family(tiny)
    with pytest.raises(ValueError, match="the name 'shifted' is taken"):
        models.register_likelihood("shifted", Shifted)
    with pytest.raises(ValueError, match="no family is named 'tin'; did you mean tiny"):
        models.register_likelihood("other", Shifted, families=("tin",))
    with pytest.raises(ValueError, match="family hierarchical requires"):
        check_model(replace(config, family="hierarchical", network="mlp"))


OUTPUT_CHANNELS = {"discretized-logistic": 6, "beta-binomial": 6, "local-autoregressive": 8}  # of pixels with levels


@pytest.mark.parametrize("name", likelihoods.LIKELIHOODS)
def test_every_likelihood_declares_the_whole_protocol(name: str) -> None:
    inputs = ModelInputs(event_shape=(3, 2, 2), num_levels=5, num_tokens=9)
    likelihood = LIKELIHOODS[name].build(ModelConfig(hidden_dim=(4,)), inputs)
    assert isinstance(likelihood, Likelihood)
    assert likelihood.output_shape((3, 2, 2)) == (OUTPUT_CHANNELS.get(name, 3), 2, 2)
    started = likelihood.output_for_mean(torch.full((3, 2, 2), 0.5))
    assert started is None or started.shape == likelihood.output_shape((3, 2, 2))
    assert likelihood.is_discrete == (name in OUTPUT_CHANNELS)
    assert isinstance(likelihood.support, likelihoods.Support)
