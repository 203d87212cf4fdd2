import math

import pytest
import torch
from torch.distributions import Normal

from fastvae import ops
from fastvae.likelihoods import Bernoulli, Gaussian

EVENTS = [(1,), (7,), (2, 3)]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_bernoulli_log_prob_of_binary_pixels_agrees_with_torch_distributions(event, dtype):
    logits, target = normal(5, *event), uniform(5, *event, seed=1) < 0.5
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(target.float()).flatten(1).sum(1)
    log_prob = Bernoulli()(logits).log_prob(target.to(dtype))
    assert log_prob.shape == (5,)
    torch.testing.assert_close(log_prob, expected)


def test_bernoulli_log_prob_of_grey_pixels_is_an_expectation():
    logits, target = normal(5, 7), uniform(5, 7, seed=1)
    p = torch.sigmoid(logits)
    expected = (target * p.log() + (1 - target) * (1 - p).log()).sum(1)
    torch.testing.assert_close(Bernoulli()(logits).log_prob(target), expected)


def test_bernoulli_is_finite_for_extreme_logits():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    log_prob = Bernoulli()(logits).log_prob(torch.tensor([[0.0, 1.0]]))
    log_prob.sum().backward()
    torch.testing.assert_close(log_prob, torch.tensor([-400.0]))
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("variances", ["scalar", "per-dimension"])
def test_gaussian_log_prob_agrees_with_torch_distributions(event, variances):
    likelihood = Gaussian(None if variances == "scalar" else event, logvar=-1.3)
    with torch.no_grad():
        likelihood.raw_logvar += normal(*likelihood.raw_logvar.shape, seed=2)
    mean, target = normal(5, *event), normal(5, *event, seed=1)
    expected = Normal(mean, torch.exp(likelihood.logvar / 2)).log_prob(target).flatten(1).sum(1)
    torch.testing.assert_close(likelihood(mean).log_prob(target), expected)


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), Gaussian(), Gaussian((2, 3))], ids=["bernoulli", "scalar", "per-dim"]
)
@pytest.mark.parametrize(("num_samples", "batch"), [(4, 5), (1, 5), (4, 1), (1, 1), (5, 5), (4, 0)])
def test_samples_broadcast_and_events_may_be_flat(likelihood, num_samples, batch):
    output, target = normal(num_samples, batch, 2, 3), uniform(batch, 2, 3, seed=1)
    log_prob = likelihood(output).log_prob(target)
    assert log_prob.shape == (num_samples, batch)
    for k in range(num_samples):
        torch.testing.assert_close(log_prob[k], likelihood(output[k]).log_prob(target))
    flat = likelihood(output.flatten(2)).log_prob(target)
    torch.testing.assert_close(flat.reshape(log_prob.shape), log_prob)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()])
def test_masked_values_are_ignored_even_if_they_are_nan(likelihood):
    output, target = normal(4, 6), uniform(4, 6, seed=1)
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 0])[:, None]
    expected = torch.stack(
        [likelihood(output[i : i + 1, :n]).log_prob(target[i : i + 1, :n])[0] for i, n in enumerate((6, 3, 1, 0))]
    )
    with_nan = torch.where(mask, target, torch.nan)
    torch.testing.assert_close(likelihood(output).log_prob(with_nan, mask=mask), expected)
    torch.testing.assert_close(likelihood(output.expand(2, 4, 6)).log_prob(with_nan, mask=mask), expected.expand(2, 4))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(784)])
def test_sums_are_float32_under_autocast(likelihood):
    output, target = normal(3, 784).bfloat16(), uniform(3, 784, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = likelihood(output).log_prob(target)
    assert log_prob.dtype == torch.float32
    exact = likelihood.double()(output.double()).log_prob(target.double())
    torch.testing.assert_close(log_prob.double(), exact, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("start", [-9.99, -3.0, 0.0, 4.0])
def test_gaussian_is_initialised_to_the_given_logvar(start):
    torch.testing.assert_close(Gaussian(logvar=start).logvar, torch.tensor(start), rtol=0, atol=1e-5)


def test_the_logvar_floor_holds_and_keeps_a_gradient():
    likelihood = Gaussian(logvar=0.0, logvar_floor=-4.0)
    with torch.no_grad():
        likelihood.raw_logvar.fill_(-12.0)
    assert -4.0 <= likelihood.logvar.item() < -3.9
    likelihood(torch.zeros(1, 5)).log_prob(torch.ones(1, 5)).sum().backward()
    assert likelihood.raw_logvar.grad.item() > 0, "a large error must still increase the variance"


def test_an_initial_logvar_below_the_floor_is_refused():
    with pytest.raises(ValueError, match=r"logvar .*logvar_floor, got -11\.0 and -10\.0"):
        Gaussian(logvar=-11.0)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian((2, 3), logvar=-2.0)])
def test_samples_depend_on_the_key_and_not_on_the_split(likelihood):
    output = normal(6, 2, 3)
    whole = likelihood(output).sample(ops.noise_key(1))
    parts = [likelihood(output[i : i + 2]).sample(ops.noise_key(1, 0, i)) for i in (0, 2, 4)]
    assert whole.shape == output.shape
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, likelihood(output).sample(ops.noise_key(2)))
    assert not torch.equal(whole, likelihood(output).sample(ops.noise_key(1), stream=7))


def test_pixels_and_latents_use_independent_noise():
    latent_noise = ops.philox_normal(ops.noise_key(0), 5, 3, stream=ops.stream(ops.Use.GENERATION))
    draws = Gaussian(logvar=0.0)(torch.zeros(5, 3)).sample(ops.noise_key(0))
    assert not torch.isclose(draws, latent_noise).any()


def test_samples_have_the_right_mean_and_variance():
    logits = torch.tensor([-2.0, 0.0, 1.0]).expand(20_000, 3)
    draws = Bernoulli()(logits).sample(ops.noise_key(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(draws.mean(0), torch.sigmoid(logits[0]), rtol=0, atol=5 * 0.5 / 20_000**0.5)
    draws = Gaussian(logvar=-2.0)(logits).sample(ops.noise_key(0))
    torch.testing.assert_close(draws.mean(0), logits[0], rtol=0, atol=5 * math.exp(-1) / 20_000**0.5)
    torch.testing.assert_close(draws.var(0), torch.full((3,), math.exp(-2.0)), rtol=0.05, atol=0)


def test_output_for_mean_is_the_inverse_of_the_mean():
    mean = torch.tensor([0.1, 0.5, 0.9])
    for likelihood in (Bernoulli(), Gaussian()):
        torch.testing.assert_close(likelihood(likelihood.output_for_mean(mean)).mean, mean)
    assert Bernoulli().output_for_mean(torch.tensor([0.0, 1.0])).isfinite().all()


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()])
def test_a_decoder_of_the_wrong_size_is_refused(likelihood):
    with pytest.raises(ValueError, match=r"9 .*4 .*got \[4, 8\]"):
        likelihood(torch.zeros(4, 8)).log_prob(torch.zeros(4, 3, 3))
