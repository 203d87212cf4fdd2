from dataclasses import replace

import pytest
import torch

from fastvae import ops
from fastvae.models import ModelConfig, ModelInputs, build_model
from fastvae.models.config import HierarchyConfig
from fastvae.objective import elbo, iw_bound
from fastvae.records import Batch, Draw

KEY = ops.noise_key(1, 2, 0)
CONFIG = ModelConfig(
    family="hierarchical",
    hidden_dim=(9, 8),
    latent_dim=3,
    activation="tanh",
    hierarchy=HierarchyConfig(latent_dim=2, hidden_dim=(7, 6)),
)


def images(num, seed=0):
    return torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def model_of(scale=1.0):
    """Return a model with perturbed weights, so that no layer is near the standard normal."""
    model = build_model(CONFIG, (1, 4, 4), seed=5)
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.mul_(scale).add_(0.1 * noise)
    return model


def test_the_network_has_the_published_sizes():
    published = ModelConfig(family="hierarchical", hidden_dim=(200, 200), latent_dim=100, activation="tanh")
    shapes = [tuple(p.shape) for name, p in build_model(published, (784,)).named_parameters() if "weight" in name]
    encoder = [(200, 784), (200, 200), (100, 200), (100, 200)]
    top = [(100, 100), (100, 100), (50, 100), (50, 100)], [(100, 50), (100, 100), (100, 100), (100, 100)]
    assert shapes == [*encoder, (200, 100), (200, 200), (784, 200), *top[0], *top[1]]


def test_weights_of_the_prior_over_the_posterior_average_to_one():
    """E_q[p(z1, z2) / q(z1, z2 | x)] = 1 for any networks, because every density integrates to 1."""
    terms = model_of(scale=0.5)(images(2), KEY, Draw(num_samples=60_000))
    assert terms.rate.std() > 0.2
    torch.testing.assert_close((-terms.rate).exp().mean(0), torch.ones(2), atol=0.05, rtol=0)


def test_a_standard_normal_between_the_layers_gives_a_plain_vae():
    model = model_of()
    with torch.no_grad():
        for part in (model.top_encoder, model.top_decoder):
            for parameter in part.parameters():
                parameter.zero_()
    posterior, x = model.encode(images(4)), images(4)
    _, expected = posterior.rsample_log_ratio(KEY, 5, stream=ops.stream(ops.Use.LATENT))
    torch.testing.assert_close(model(x, KEY, Draw(num_samples=5)).rate, expected)


def test_a_sample_depends_on_its_example_and_index():
    model, x = model_of(), images(6)
    whole = model(x, KEY, Draw(num_samples=4))
    first, rest = (model(x, KEY, Draw(num_samples=n, first_sample=f)) for n, f in ((2, 0), (2, 2)))
    torch.testing.assert_close(torch.cat([first.rate, rest.rate]), whole.rate)
    half = model(x[3:], ops.noise_key(1, 2, 3), Draw(num_samples=4))
    torch.testing.assert_close(half.rate, whole.rate[:, 3:])
    torch.testing.assert_close(half.distortion, whole.distortion[:, 3:])
    single = model(x, KEY)
    torch.testing.assert_close(single.rate, whole.rate[0])
    assert single.z.shape == (6, 3)


def test_every_weight_gets_a_gradient_from_both_bounds():
    for num_samples, objective in ((1, elbo), (3, iw_bound)):
        model = model_of()
        objective(model(images(4), KEY, Draw(num_samples=num_samples))).loss.sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("conditioning", ["concat", "film"])
def test_a_condition_reaches_the_networks_that_see_x(conditioning):
    model = build_model(replace(CONFIG, conditioning=conditioning), ModelInputs(event_shape=(1, 4, 4), condition_dim=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    x, z = images(2), torch.ones(2, 3)
    one, other = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 2.0]] * 2)
    assert not torch.equal(*(model.encode(Batch(x=x, target=x, condition=each)).mu for each in (one, other)))
    assert not torch.equal(*(model.generate(z, condition) for condition in (one, other)))
    terms = model(Batch(x=x, target=x, condition=one), KEY)
    assert terms.rate.shape == terms.distortion.shape == (2,)


def test_samples_come_from_the_learned_prior():
    model = model_of()
    z = model.draw_prior(20_000, KEY)
    top = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    mu, logvar = model.top_decoder(top)
    torch.testing.assert_close(z.mean(0), mu.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), mu.var(0) + logvar.exp().mean(0), atol=0.05, rtol=0.05)
    assert model.sample(5, KEY).shape == (5, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: model_of()(images(2), KEY, Draw(per_dimension=True)), "rate per dimension is not defined"),
        (lambda: HierarchyConfig(latent_dim=0), "at least 1, got 0"),
    ],
)
def test_unsupported_options_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
