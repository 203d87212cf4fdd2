import math

import pytest
import torch
from torch import nn

from fastvae import ops
from fastvae.likelihoods import Bernoulli, Gaussian
from fastvae.models import VAE, ModelConfig, build_model
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.objective import elbo, iw_bound
from fastvae.records import Batch, Draw

KEY = ops.noise_key(1, 2, 0)
CONFIGS = {
    "bernoulli": ModelConfig(hidden_dim=(9, 8), latent_dim=3, activation="tanh"),
    "gaussian": ModelConfig(hidden_dim=(9,), latent_dim=3, likelihood="gaussian"),
    "per-dimension": ModelConfig(latent_dim=3, likelihood="gaussian", likelihood_logvar="per-dimension"),
    "linear": ModelConfig(network="linear", latent_dim=3, likelihood="gaussian"),
}


def images(num, *, seed=0):
    return torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def model_of(name):
    return build_model(CONFIGS[name], (1, 4, 4), seed=5)


@pytest.mark.parametrize("name", CONFIGS)
def test_terms_agree_with_the_textbook_formulas(name):
    model, x = model_of(name), images(6)
    terms = model(x, KEY, Draw(per_dimension=True))
    mu, logvar = model.encoder(x)
    z = mu + torch.exp(logvar / 2) * ops.philox_normal(KEY, 6, 3, stream=ops.stream(ops.Use.LATENT))
    torch.testing.assert_close(terms.z, z)
    torch.testing.assert_close(terms.rate, 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1))
    output = model.decoder(z)
    if name == "bernoulli":
        expected = nn.functional.binary_cross_entropy_with_logits(output, x, reduction="none").flatten(1).sum(1)
    else:
        logvar_x = model.likelihood.logvar
        expected = 0.5 * ((x - output) ** 2 / logvar_x.exp() + logvar_x + math.log(2 * math.pi)).flatten(1).sum(1)
    torch.testing.assert_close(terms.distortion, expected)
    torch.testing.assert_close(terms.rate_per_dimension.sum(), terms.rate.sum())
    assert model(x, KEY).rate_per_dimension is None


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("num_samples", [2, 5])
def test_several_samples_have_their_log_ratios_and_distortions(name, num_samples):
    model, x = model_of(name), images(6)
    terms = model(x, KEY, Draw(num_samples))
    assert terms.z.shape == (num_samples, 6, 3)
    assert terms.rate.shape == terms.distortion.shape == (num_samples, 6)
    posterior = model.encode(x)
    log_prior = torch.distributions.Normal(0, 1).log_prob(terms.z).sum(-1)
    torch.testing.assert_close(terms.rate, posterior.log_prob(terms.z) - log_prior, rtol=1e-4, atol=1e-4)
    for k in range(num_samples):
        torch.testing.assert_close(terms.distortion[k], -model.decode(terms.z[k]).log_prob(x))
    assert len(terms.z.flatten(1).unique(dim=0)) == num_samples


def test_samples_in_chunks_equal_all_samples():
    model, x = model_of("bernoulli"), images(6)
    whole = model(x, KEY, Draw(7))
    parts = [model(x, KEY, Draw(num, first_sample=first)) for first, num in ((0, 2), (2, 3), (5, 2))]
    assert torch.equal(whole.z, torch.cat([part.z for part in parts]))
    torch.testing.assert_close(whole.distortion, torch.cat([part.distortion for part in parts]))
    single = model(x, KEY, Draw(first_sample=3))
    torch.testing.assert_close(single.z, whole.z[3])


def test_the_batch_split_changes_no_term():
    model, x = model_of("bernoulli"), images(10)
    whole = model(x, KEY)
    parts = [model(x[i : i + 4], ops.noise_key(1, 2, i)) for i in (0, 4, 8)]
    for name in ("z", "rate", "distortion"):
        torch.testing.assert_close(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))


def test_evaluation_and_training_use_different_noise():
    model, x = model_of("bernoulli"), images(4)
    assert not torch.equal(model(x, KEY).z, model(x, KEY, Draw(evaluation=True)).z)
    assert torch.equal(model(x, KEY, Draw(evaluation=True)).z, model(x, KEY, Draw(evaluation=True)).z)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 6])
def test_every_parameter_gets_a_gradient(name, num_samples, size):
    model = model_of(name)
    terms = model(images(size), KEY, Draw(num_samples))
    objective = elbo(terms) if num_samples == 1 else iw_bound(terms)
    assert objective.loss.shape == (size,)
    objective.loss.sum().backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label
        assert size == 0 or parameter.grad.any(), label


def test_the_global_generator_is_not_used():
    model, before = model_of("bernoulli"), torch.get_rng_state()
    elbo(model(images(4), KEY)).loss.sum().backward()
    model(images(4), KEY, Draw(3))
    model.sample(3, KEY, draw_pixels=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_target_and_mask_of_the_batch_are_scored():
    model, x, target = model_of("bernoulli"), images(4), images(4, seed=1).round()
    terms = model(Batch(x=x, target=target), KEY)
    torch.testing.assert_close(terms.distortion, -model.decode(terms.z).log_prob(target))
    mask = torch.zeros_like(x)
    mask[:, :, :2] = 1
    masked = model(Batch(x=x, target=target, mask=mask), KEY).distortion
    torch.testing.assert_close(masked, -model.decode(terms.z).log_prob(target, mask=mask))
    assert (masked < terms.distortion).all()


def test_autocast_keeps_the_terms_in_float32():
    for name in CONFIGS:
        model, x = model_of(name), images(32)
        with torch.autocast("cpu", torch.bfloat16):
            terms = model(x, KEY, Draw(per_dimension=True))
            samples = model(x, KEY, Draw(3))
        exact = model(x, KEY)
        for value in (terms.rate, terms.distortion, terms.rate_per_dimension, samples.rate, samples.distortion):
            assert value.dtype == torch.float32
        torch.testing.assert_close(elbo(terms).elbo.mean(), elbo(exact).elbo.mean(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", CONFIGS)
def test_samples_and_reconstructions_have_the_events_shape(name):
    model = model_of(name)
    means = model.sample(5, ops.noise_key(3))
    assert means.shape == model.sample(5, ops.noise_key(3), draw_pixels=True).shape == (5, 1, 4, 4)
    assert not means.requires_grad
    parts = [model.sample(num, ops.noise_key(3, 0, first)) for first, num in ((0, 2), (2, 3))]
    torch.testing.assert_close(means, torch.cat(parts))
    x = images(6)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x).mu).mean)
    assert model.reconstruct(x).shape == x.shape


def test_sampled_pixels_of_a_bernoulli_are_binary():
    assert set(model_of("bernoulli").sample(5, KEY, draw_pixels=True).unique().tolist()) == {0.0, 1.0}


class ConvEncoder(nn.Module):
    """A user's encoder without an attribute for the latent dimension."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 2, stride=2)
        self.head = nn.Linear(16, 6)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1)).chunk(2, dim=1)


class ConvDecoder(nn.Module):
    """A user's decoder that accepts [N, D] only."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 16)
        self.conv = nn.ConvTranspose2d(4, 1, 2, stride=2)

    def forward(self, z):
        assert z.dim() == 2
        return self.conv(self.stem(z).unflatten(1, (4, 2, 2)))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), Gaussian((1, 4, 4))])
def test_users_encoders_and_decoders_are_accepted(likelihood):
    model, x = VAE(ConvEncoder(), ConvDecoder(), likelihood), images(6)
    assert model(x, KEY).distortion.shape == (6,)
    assert model(x, KEY, Draw(4)).distortion.shape == (4, 6)
    with pytest.raises(ValueError, match="latent_dim=D"):
        model.sample(2, KEY)
    assert VAE(ConvEncoder(), ConvDecoder(), likelihood, latent_dim=3).sample(2, KEY).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_a_flat_decoder_scores_shaped_targets(num_samples):
    model = VAE(MLPEncoder(16, 8, 3), MLPDecoder(3, 8, 16), Bernoulli())
    for size in (1, 6):
        terms = model(images(size), KEY, Draw(num_samples))
        assert terms.distortion.shape == terms.rate.shape


def test_lightning_fabric_may_set_its_device_attribute():
    """Fabric sets ``_device`` and ``_dtype`` on a module, see tests/ops/test_loops.py."""
    model = VAE(MLPEncoder(16, 8, 3), MLPDecoder(3, 8, 16), Bernoulli(), latent_dim=3)
    model._device, model._dtype = torch.device("cpu"), torch.float32
    assert model.sample(2).shape == (2, 16)
