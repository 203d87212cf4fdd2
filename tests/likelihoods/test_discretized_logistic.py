"""The discretised logistic likelihood: probabilities of levels, samples, and bits per dimension of a model."""

import math
from dataclasses import replace

import pytest
import torch

from fastvae import ops
from fastvae.data import as_data, evaluation_batches
from fastvae.evaluate import evaluate
from fastvae.likelihoods import DiscretizedLogistic
from fastvae.models import ModelConfig, build_model

KEY = ops.noise_key(4)


def output(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_probabilities_of_all_levels_sum_to_1():
    bound = DiscretizedLogistic(3, 17)(output(1, 2, 1, 1).expand(17, 2, 1, 1))
    levels = torch.arange(17).view(17, 1, 1, 1)
    mass = bound.log_prob(levels / 16).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-5)
    below = bound.probability_below(levels)
    torch.testing.assert_close(torch.cat([below[1:], torch.ones(1, 1, 1, 1)]) - below, mass.view(-1, 1, 1, 1))
    assert below[0] == 0
    assert bound.probability_below(torch.full((17, 1, 1, 1), 17), 17).eq(1).all()
    with pytest.raises(ValueError, match=r"17 .*256"):
        bound.probability_below(levels, 256)


def test_log_prob_of_several_samples_equals_that_of_each():
    likelihood, pixels = DiscretizedLogistic(3, 256), torch.randint(256, (4, 3, 2, 2)) / 255
    outputs = output(5, 4, 6, 2, 2)
    together = likelihood(outputs).log_prob(pixels)
    for k in range(5):
        torch.testing.assert_close(together[k], likelihood(outputs[k]).log_prob(pixels))


def test_samples_are_levels_with_the_right_frequencies():
    bound = DiscretizedLogistic(3, 8)(torch.tensor([0.3, -1.0]).view(1, 2, 1, 1).expand(20_000, 2, 1, 1))
    drawn = (bound.sample(KEY) * 7).round()
    assert torch.equal(drawn / 7, bound.sample(KEY))
    frequencies = torch.bincount(drawn.long().flatten(), minlength=8) / 20_000
    levels = torch.arange(8).view(8, 1, 1, 1) / 7
    expected = DiscretizedLogistic(3, 8)(torch.tensor([0.3, -1.0]).view(1, 2, 1, 1).expand(8, 2, 1, 1))
    torch.testing.assert_close(frequencies, expected.log_prob(levels).exp(), atol=0.015, rtol=0)


def test_the_scale_has_a_lower_limit():
    raw = torch.full((1, 2, 1, 1), -30.0, requires_grad=True)
    bound = DiscretizedLogistic(3)(raw)
    assert bound.log_scale.item() == pytest.approx(-7.0)
    assert bound.mean.item() == 0.0  # the mean is clamped to the range of pixels
    with pytest.raises(ValueError, match="got 3 "):
        DiscretizedLogistic(3)(output(1, 3, 2, 2))


def test_a_model_is_initialised_to_the_mean_example_and_has_bits_per_dim():
    pixels = (torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    data = as_data(pixels)
    inputs = data.model_inputs
    config = ModelConfig(likelihood="discretized-logistic", hidden_dim=(8,), latent_dim=2)
    model = build_model(config, inputs, mean=data.train_mean)
    torch.testing.assert_close(model.generate(torch.zeros(2, 2)), data.train_mean.expand(2, -1, -1, -1))
    batches = evaluation_batches(data.test, data.preprocess, batch_size=4, seed=0)
    result = evaluate(model, batches, event_numel=data.event_numel, log_jacobian_nats=data.log_jacobian_nats)
    assert result.bits_per_dim == pytest.approx(result.nll_nats / (48 * math.log(2)))
    assert 7 < result.bits_per_dim < 12  # uniform pixels have 8


def test_dequantised_pixels_are_refused():
    data = as_data((torch.rand(9, 1, 4, 4) * 255).to(torch.uint8), dequantize=True)
    with pytest.raises(ValueError, match=r"--data\.dequantize False"):
        build_model(ModelConfig(likelihood="discretized-logistic"), replace(data.model_inputs, event_shape=(1, 4, 4)))
