import pytest
import torch

from fastvae.models import VAE, AutoEncoder, ModelConfig, build_model
from fastvae.nn import LinearEncoder

CONFIGS = [
    ModelConfig(),
    ModelConfig(hidden_dim=(7, 5), latent_dim=2, activation="tanh"),
    ModelConfig(likelihood="gaussian"),
    ModelConfig(network="linear", likelihood="gaussian", latent_dim=2),
    ModelConfig(family="autoencoder", hidden_dim=(7, 5), latent_dim=2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_depend_on_the_seed_only(config):
    before = torch.get_rng_state()
    first, again, other = (build_model(config, (1, 4, 4), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), b in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert any(not torch.equal(a, c) for a, c in zip(first.parameters(), other.parameters(), strict=True))


def test_the_decoder_mirrors_the_encoder():
    model = build_model(ModelConfig(hidden_dim=(7, 5), latent_dim=2), (1, 4, 4))
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if "weight" in name]
    assert shapes == [(7, 16), (5, 7), (2, 5), (2, 5), (5, 2), (7, 5), (16, 7)]


def test_configs_build_the_named_families_and_networks():
    assert isinstance(build_model(CONFIGS[0], (16,)), VAE)
    linear = build_model(CONFIGS[3], (16,))
    assert isinstance(linear.encoder, LinearEncoder)
    assert sum(p.numel() for p in linear.parameters()) == (16 * 2 + 2) + 2 + (2 * 16 + 16) + 1
    assert isinstance(build_model(CONFIGS[4], (16,)), AutoEncoder)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_output_is_initialised_to_the_mean_example(config):
    mean = torch.linspace(0.05, 0.95, 16).view(1, 4, 4)
    model = build_model(config, (1, 4, 4), mean=mean)
    started = model.decode(torch.zeros(2, config.latent_dim))
    started = started if isinstance(model, AutoEncoder) else started.mean
    torch.testing.assert_close(started, mean.expand(2, 1, 4, 4))


def test_settings_of_the_gaussian_are_used():
    config = ModelConfig(
        likelihood="gaussian",
        likelihood_logvar="per-dimension",
        likelihood_logvar_floor=-5.0,
        likelihood_logvar_start=-2.0,
    )
    likelihood = build_model(config, (1, 4, 4)).likelihood
    torch.testing.assert_close(likelihood.logvar, torch.full((1, 4, 4), -2.0))
    assert likelihood.logvar_floor == -5.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 0}, "at least 1, got 0"),
        ({"hidden_dim": (5, 0)}, r"got 20 and \(5, 0\)"),
        ({"likelihood_logvar_start": -12.0}, "got -10.0 and -12.0"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**settings)
