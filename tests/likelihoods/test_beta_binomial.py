"""The beta-binomial likelihood: probabilities of levels, gradients, samples, and the start of a model."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import betabinom

from fastvae import ops
from fastvae.data import as_data
from fastvae.likelihoods import BetaBinomial, BoundBetaBinomial
from fastvae.models import ModelConfig, build_model

KEY = ops.noise_key(4)
SHAPES = [(2e-4, 3.0), (0.3, 0.2), (1.0, 1.0), (40.0, 7.0), (1000.0, 1000.0)]  # up to the cap


@pytest.mark.parametrize(("alpha", "beta"), SHAPES)
def test_probabilities_of_all_levels_are_those_of_scipy(alpha: float, beta: float) -> None:
    level = torch.arange(256).view(256, 1)
    bound = BoundBetaBinomial(torch.full((256, 1), alpha), torch.full((256, 1), beta), 256)
    expected = torch.from_numpy(betabinom.logpmf(level.numpy(), 255, alpha, beta)).squeeze(1)
    torch.testing.assert_close(bound.log_prob(level / 255).double(), expected, rtol=1e-5, atol=2e-3)
    below = bound.probability_below(level).squeeze(1)
    torch.testing.assert_close(below, torch.from_numpy(betabinom.cdf(level.numpy() - 1, 255, alpha, beta)).squeeze(1))
    assert below[0] == 0
    assert bool((below.diff() >= 0).all())
    assert bound.probability_below(torch.full((256, 1), 256), 256).eq(1).all()
    with pytest.raises(ValueError, match=r"256 .*17"):
        bound.probability_below(level, 17)


def test_gradients_are_those_of_differences() -> None:
    raw = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    pixels = torch.randint(9, (3, 2, 2, 2)).double() / 8
    mask = torch.rand(3, 2, 2, 2).gt(0.3).double()
    assert torch.autograd.gradcheck(lambda output: BetaBinomial(3, 9)(output).log_prob(pixels, mask), raw)


def test_samples_are_levels_with_the_right_frequencies() -> None:
    bound = BoundBetaBinomial(torch.full((20_000, 1), 0.7), torch.full((20_000, 1), 0.4), 8)
    drawn = (bound.sample(KEY) * 7).round()
    assert torch.equal(drawn / 7, bound.sample(KEY))
    frequencies = torch.bincount(drawn.long().flatten(), minlength=8).double() / 20_000
    expected = torch.from_numpy(betabinom.pmf(range(8), 7, 0.7, 0.4))
    torch.testing.assert_close(frequencies, expected, atol=0.015, rtol=0)
    some = BoundBetaBinomial(bound.alpha[:5], bound.beta[:5], 8)
    assert torch.equal(some.sample(KEY), bound.sample(KEY)[:5])


def test_concentrations_are_capped_and_missing_pixels_may_be_nan() -> None:
    likelihood = BetaBinomial(1, 256)
    bound = likelihood(torch.full((256, 2), 1e6))
    levels = torch.arange(256).view(256, 1) / 255
    assert bound.log_prob(levels).exp().sum().item() == pytest.approx(1, abs=2e-3)
    output = torch.zeros(1, 4, requires_grad=True)
    found = likelihood(output).log_prob(torch.tensor([[float("nan"), 0.5]]), torch.tensor([[0.0, 1.0]]))
    found.sum().backward()
    assert found.item() == pytest.approx(-math.log(256), abs=0.7)
    assert output.grad is not None
    assert bool(output.grad.isfinite().all())
    with pytest.raises(ValueError, match="at least 2, got 1"):
        BetaBinomial(3, 1)


def test_samples_of_several_latents_have_their_shape() -> None:
    bound = BetaBinomial(1, 256)(torch.randn(3, 4, 10))
    assert bound.sample(KEY).shape == (3, 4, 5)


def test_a_model_starts_at_the_mean_example() -> None:
    pixels = (torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    data = as_data(pixels)
    config = ModelConfig(likelihood="beta-binomial", hidden_dim=(8,), latent_dim=2)
    model = build_model(config, data.model_inputs, mean=data.train_mean)
    started = model.generate(torch.zeros(2, 2))
    torch.testing.assert_close(started, data.train_mean.expand(2, -1, -1, -1), atol=1e-3, rtol=0)
    batch = pixels[:4].float() / 255
    assert 48 * math.log(256) < model(batch, KEY).distortion.mean().item() < 1.2 * 48 * math.log(256)


def test_other_outputs_and_dequantised_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 "):
        BetaBinomial(3)(torch.zeros(1, 3, 2, 2))
    data = as_data((torch.rand(9, 1, 4, 4) * 255).to(torch.uint8), dequantize=True)
    with pytest.raises(ValueError, match=r"--data\.dequantize False"):
        build_model(ModelConfig(likelihood="beta-binomial"), data.model_inputs)
