"""Priors as modules: KL, samples, importance weights and evaluation follow the model's own prior."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import fastvae
from fastvae import VAE, DiagonalGaussian, Draw, GaussianPrior, Prior, StandardNormal, ops
from fastvae.applications.compression.integer_vae import IntegerVAE
from fastvae.data import as_data
from fastvae.evaluate import evaluate
from fastvae.objective import elbo, iw_bound

KEY = ops.noise_key(1, 2, 0)


class Mixture(Prior):
    """A user's prior: a learned mixture of K unit Gaussians, which has no KL in closed form."""

    def __init__(self, num_components: int, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.means = nn.Parameter(torch.linspace(-8, 8, num_components)[:, None].repeat(1, latent_dim))

    def mixture(self) -> MixtureSameFamily:
        weights = torch.zeros(len(self.means))
        parts = MultivariateNormal(self.means, torch.eye(self.means.shape[1]))
        return MixtureSameFamily(Categorical(logits=weights), parts)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.mixture().log_prob(z)

    def rsample(self, num: int, noise_key: Tensor) -> Tensor:
        chosen = ops.philox_integers(noise_key, num, 1, stream=ops.stream(ops.Use.GENERATION, 9)) % len(self.means)
        noise = ops.philox_normal(noise_key, num, self.means.shape[1], stream=ops.stream(ops.Use.GENERATION))
        return self.means[chosen.flatten()] + noise


def vae_with(prior: Prior | None) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return VAE(fastvae.MLPEncoder(6, 8, 2), fastvae.MLPDecoder(2, 8, 6), fastvae.Gaussian(), 2, prior=prior)


def moved_gaussian() -> GaussianPrior:
    prior = GaussianPrior(2)
    with torch.no_grad():
        prior.mu.copy_(torch.tensor([1.0, -2.0]))
        prior.logvar.copy_(torch.tensor([0.5, -1.0]))
    return prior


def examples(num: int = 5) -> Tensor:
    return torch.rand(num, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "draw", [Draw(), Draw(first_sample=3), Draw(per_dimension=True), Draw(4), Draw(evaluation=True)]
)
def test_the_standard_normal_is_the_default(draw: Draw) -> None:
    plain, given = vae_with(None), vae_with(StandardNormal())
    for name, value in vars(plain(examples(), KEY, draw)).items():
        other = getattr(given(examples(), KEY, draw), name)
        assert (value is None and other is None) or torch.equal(value, other)
    z = ops.philox_normal(KEY, 7, 2, stream=ops.stream(ops.Use.GENERATION, ops.GenerationSite.PRIOR))
    assert torch.equal(plain.draw_prior(7, KEY), z)
    torch.testing.assert_close(plain.prior.log_prob(z), torch.distributions.Normal(0, 1).log_prob(z).sum(1))
    assert not list(plain.prior.parameters())


@pytest.mark.parametrize("prior", [moved_gaussian, lambda: Mixture(3, 2)], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("num_samples", [1, 4])
def test_the_rate_is_the_kl_to_the_models_prior(prior, num_samples: int) -> None:
    model = vae_with(prior())
    terms, posterior = model(examples(), KEY, Draw(num_samples)), model.encode(examples())
    expected = posterior.log_prob(terms.z) - model.prior.log_prob(terms.z)
    if num_samples == 1 and isinstance(model.prior, GaussianPrior):
        expected = model.prior.kl(posterior)
        reference = torch.distributions.kl_divergence(
            torch.distributions.Normal(posterior.mu, posterior.stddev),
            torch.distributions.Normal(model.prior.mu, torch.exp(0.5 * model.prior.logvar)),
        )
        torch.testing.assert_close(expected, reference.sum(1))
    torch.testing.assert_close(terms.rate, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(terms.z, vae_with(None)(examples(), KEY, Draw(num_samples)).z)  # the noise is the same
    objective = elbo(terms) if num_samples == 1 else iw_bound(terms)
    objective.loss.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.prior.parameters())


def test_one_sample_is_an_unbiased_estimate_of_the_kl() -> None:
    """A mixture of one component is a Gaussian, whose KL is known."""
    model, x = vae_with(Mixture(1, 2)), examples(1).expand(20_000, -1)
    exact = vae_with(moved := GaussianPrior(2))
    with torch.no_grad():
        moved.mu.copy_(model.prior.means[0])
        rates, (kl, *_) = model(x, KEY).rate, exact(x, KEY).rate
    assert rates.mean().item() == pytest.approx(kl.item(), abs=5 * rates.std().item() / 20_000**0.5)


@pytest.mark.parametrize("prior", [moved_gaussian, lambda: Mixture(3, 2)], ids=["gaussian", "mixture"])
def test_samples_follow_the_prior(prior) -> None:
    model = vae_with(prior())
    with torch.no_grad():
        z = model.draw_prior(20_000, KEY)
        if isinstance(model.prior, GaussianPrior):
            torch.testing.assert_close(z.mean(0), model.prior.mu.data, atol=0.05, rtol=0)
            torch.testing.assert_close(z.var(0), model.prior.logvar.exp(), atol=0.05, rtol=0.05)
        else:
            torch.testing.assert_close(z.var(0), 1 + model.prior.means.var(0, correction=0), rtol=0.05, atol=0)
        assert torch.equal(model.sample(4, KEY), model.generate(z[:4]))


def test_evaluation_uses_the_prior() -> None:
    x = examples(64)
    batches = [fastvae.data.MicroBatch(batch=fastvae.Batch(x=x, target=x), key=ops.noise_key(0), first_row=0, size=64)]
    gaussian, mixture = (
        evaluate(vae_with(prior), batches, num_samples=200) for prior in (moved_gaussian(), Mixture(3, 2))
    )
    assert sum(gaussian.kl_per_dimension_nats) == pytest.approx(gaussian.rate_nats, rel=1e-4)
    assert mixture.kl_per_dimension_nats is None
    assert mixture.active_units is not None
    for found in (gaussian, mixture):
        assert -found.nll_nats >= found.elbo_nats - 0.5  # the rate of one sample is noisy
    # The bound is one on log p(x) under the model's prior: plain Monte Carlo over the prior agrees.
    with torch.no_grad():
        model = vae_with(moved_gaussian())
        z = model.draw_prior(200_000, KEY)
        log_p = torch.stack([model.decode(z).log_prob(one.expand(len(z), -1)).logsumexp(0) for one in x[:8]])
        estimate = (log_p - torch.tensor(200_000.0).log()).mean()
        few = [fastvae.data.MicroBatch(batch=fastvae.Batch(x=x[:8], target=x[:8]), key=KEY, first_row=0, size=8)]
        assert evaluate(model, few, num_samples=60_000).nll_nats == pytest.approx(-estimate.item(), abs=0.05)


def test_free_bits_require_a_kl_per_dimension() -> None:
    with pytest.raises(ValueError, match="Mixture has no KL per dimension; use no free bits"):
        vae_with(Mixture(3, 2))(examples(), KEY, Draw(per_dimension=True))
    terms = vae_with(moved_gaussian())(examples(), KEY, Draw(per_dimension=True))
    torch.testing.assert_close(terms.rate_per_dimension.sum(), terms.rate.sum())


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_learned_prior_trains(accumulation: int, tmp_path: Path) -> None:
    config = fastvae.TrainConfig(
        steps=20, global_batch_size=16, lr=1e-2, accumulation=accumulation, final_samples=2, device="cpu",
        objective=fastvae.ObjectiveConfig(free_bits=0.05),
    )  # fmt: skip
    prior = moved_gaussian()
    before = prior.mu.detach().clone()
    run = fastvae.train(vae_with(prior), examples(64), config, run_dir=tmp_path)
    assert not torch.equal(run.model.prior.mu, before)
    assert run.evaluation.rate_nats == pytest.approx(sum(run.evaluation.kl_per_dimension_nats), rel=1e-4)


def test_priors_with_inconsistent_kl_and_samples_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Sneaky: draw_prior may be overridden together with forward only"):

        class Sneaky(VAE):
            def draw_prior(self, num: int, noise_key: Tensor) -> Tensor:
                return torch.ones(num, 2)

    with pytest.raises(TypeError, match=r"prior must be a fastvae\.distributions\.Prior, got Linear"):
        vae_with(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"the latents' shape \(2,\), got \(3,\)"):
        vae_with(StandardNormal(3))


def test_a_log_prob_of_the_wrong_shape_is_refused() -> None:
    class PerDimension(StandardNormal):
        def log_prob(self, z: Tensor) -> Tensor:
            return -z.square()

        rsample_rate = Prior.rsample_rate

        def kl(self, posterior: DiagonalGaussian) -> None:
            return None

    with pytest.raises(ValueError, match=r"PerDimension\.log_prob must give one number for each latent, \[5\]"):
        vae_with(PerDimension(2))(examples(), KEY)


def test_compression_requires_a_standard_normal_prior() -> None:
    with pytest.raises(ValueError, match=r"latents under N\(0, I\), got a VAE with prior GaussianPrior"):
        IntegerVAE(vae_with(moved_gaussian()), as_data(examples()))
