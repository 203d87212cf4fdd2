import pytest
import torch

from fastvae import ops
from fastvae.models import AutoEncoder, ModelConfig, build_model
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.objective import elbo
from fastvae.records import Batch, Draw
from tests import runs

CONFIG = ModelConfig(family="autoencoder", hidden_dim=(9,), latent_dim=3)


def images(num):
    return torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_distortion_is_the_squared_error_of_each_example():
    model, x = build_model(CONFIG, (1, 4, 4)), images(6)
    terms = model(x, ops.noise_key(0))
    expected = (model.reconstruct(x) - x).square().flatten(1).sum(1)
    torch.testing.assert_close(terms.distortion, expected)
    assert torch.equal(terms.rate, torch.zeros(6))
    assert torch.equal(terms.z, model.encode(x))
    assert torch.equal(model(x, ops.noise_key(9)).distortion, terms.distortion), "it draws nothing"


@pytest.mark.parametrize("size", [0, 6])
def test_every_parameter_gets_a_gradient(size):
    model = build_model(CONFIG, (1, 4, 4))
    elbo(model(images(size), ops.noise_key(0))).loss.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_masked_values_do_not_count():
    model, x = build_model(CONFIG, (1, 4, 4)), images(6)
    mask = torch.ones_like(x)
    mask[:, :, 1:] = 0
    target = torch.where(mask.bool(), x, torch.nan)
    distortion = model(Batch(x=x, target=target, mask=mask)).distortion
    torch.testing.assert_close(distortion, (model.reconstruct(x) - x)[:, :, :1].square().flatten(1).sum(1))


def test_an_encoder_of_pairs_gives_its_mean_as_the_code():
    encoder = MLPEncoder(16, 8, 3)
    model, x = AutoEncoder(encoder, MLPDecoder(3, 8, (1, 4, 4))), images(6)
    assert torch.equal(model.encode(x), encoder(x)[0])
    assert model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("options", [{"num_samples": 2}, {"per_dimension": True}])
def test_methods_of_a_vae_are_refused(options):
    with pytest.raises(ValueError, match=r"AutoEncoder: .*no rate.*VAE"):
        build_model(CONFIG, (1, 4, 4))(images(2), ops.noise_key(0), Draw(**options))


def test_no_weight_of_a_rate_is_logged(tmp_path):
    config = ModelConfig(family="autoencoder", hidden_dim=(9,), latent_dim=3)
    runs.train(tmp_path / "run", build_model(config, (1, 8, 8)), steps=2, log_every=1)
    for record in runs.metrics(tmp_path / "run", "train"):
        assert "kl_weight" not in record
        assert record["lr"] > 0
        assert record["squared_error"] > 0
