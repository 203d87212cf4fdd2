import math

import pytest
import torch

import fastvae
from fastvae import ops
from fastvae.data import MicroBatch
from fastvae.evaluate import LatentMoments, evaluate
from fastvae.evaluate.latent import active_units, mutual_information


@pytest.mark.parametrize("sizes", [(1000,), (1, 999), (300, 0, 700)])
def test_active_units_have_a_varying_mean_and_do_not_depend_on_the_split(sizes):
    spread = torch.tensor([1.0, 0.11, 0.09, 0.0])  # variances 1, 0.0121, 0.0081, 0 against 0.01
    mu = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    mu = (mu - mu.mean(0)) / mu.std(0, correction=0) * spread + 1000  # a large mean must not hide a small variance
    moments = LatentMoments()
    for part in mu.split(sizes):
        moments.add(part)
    assert active_units(moments.sums, 1000) == 2


def clusters(num: int, num_clusters: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return posteriors N(c, spread^2) around distant centres c, with equally many examples each."""
    centres = 100.0 * (torch.arange(num, dtype=torch.float64) % num_clusters)
    mu = torch.stack((centres, torch.zeros_like(centres)), dim=1)
    return mu, torch.full_like(mu, 2 * math.log(spread))


def test_mutual_information_agrees_with_known_values():
    key = fastvae.noise_key(0)
    mu, logvar = clusters(600, 6, 0.1)
    assert mutual_information(mu, logvar, key) == pytest.approx(math.log(6), abs=1e-6)
    assert mutual_information(mu * 0, logvar * 0, key) == pytest.approx(0.0, abs=1e-12)
    # x ~ N(0, s^2), q(z|x) = N(x, 1): I = log(1 + s^2) / 2
    draws = ops.philox_normal(fastvae.noise_key(1), 1000, 1).double()
    found = mutual_information(2 * draws, torch.zeros_like(draws), key)
    assert found == pytest.approx(0.5 * math.log(5), abs=0.08)


def test_mutual_information_without_a_meaning_is_none():
    """Means of unscaled counts: the distances in units of the standard deviation exceed what float64 can add."""
    key = fastvae.noise_key(0)
    draws = ops.philox_normal(fastvae.noise_key(1), 300, 2).double()
    assert mutual_information(1e9 * draws, torch.full_like(draws, -12.0), key) is None
    assert mutual_information(draws, torch.full_like(draws, 800.0), key) is None
    assert mutual_information(draws, torch.full_like(draws, -4.0), key) <= math.log(300)


@pytest.mark.parametrize("sizes", [(300,), (100, 1, 199), (0, 300)])
def test_latent_use_does_not_depend_on_the_split(sizes):
    model = fastvae.VAE(fastvae.MLPEncoder(3, 8, 4), fastvae.MLPDecoder(4, 8, 3), fastvae.Gaussian())
    x = ops.philox_normal(fastvae.noise_key(2), 300, 3)
    batches = []
    for size in sizes:
        first = sum(len(b.batch) for b in batches)
        batch = fastvae.Batch(x=x[first : first + size], target=x[first : first + size])
        batches.append(MicroBatch(batch=batch, key=fastvae.noise_key(5, 0, first), first_row=first, size=size))
    found = evaluate(model, batches)
    terms = model.encode(fastvae.Batch(x=x, target=x))
    assert found.latent_units == 4
    torch.testing.assert_close(torch.tensor(found.kl_per_dimension_nats), terms.kl_per_dimension().detach() / 300)
    assert sum(found.kl_per_dimension_nats) == pytest.approx(found.rate_nats, rel=1e-5)
    known = mutual_information(terms.mu.detach().double(), terms.logvar.detach().double(), fastvae.noise_key(5))
    assert found.mutual_information_nats == pytest.approx(known, abs=1e-9)
    assert found.mutual_information_nats <= found.rate_nats
    assert found.mutual_information_limit_nats == pytest.approx(math.log(300))
