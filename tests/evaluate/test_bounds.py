import math
import threading
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.evaluate import evaluate
from fastvae.likelihoods import Gaussian
from fastvae.models import VAE, ModelConfig, build_model
from fastvae.nn import LinearEncoder, MLPDecoder
from fastvae.records import Batch, Draw, VAETerms


@dataclass
class Keyed:
    batch: Batch
    key: Tensor


def batches_of(x, size, *, start=0, stop=None):
    stop = len(x) if stop is None else stop
    firsts = range(start, stop, size)
    return [
        Keyed(Batch(x=x[i : min(i + size, stop)], target=x[i : min(i + size, stop)]), ops.noise_key(0, 0, i))
        for i in firsts
    ]


def images(num):
    return torch.rand(num, 16, generator=torch.Generator().manual_seed(0))


def small_model(likelihood="bernoulli"):
    return build_model(ModelConfig(hidden_dim=(8,), latent_dim=3, likelihood=likelihood), (16,), seed=1)


def numbers(result):
    """Return the numeric fields: all of a VAE's except the bits of continuous data, the penalty and NDCG."""
    found = {name: value for name, value in vars(result).items() if value is not None}
    assert set(vars(result)) - set(found) == {"bits_per_dim", "squared_error", "penalty", "ndcg_100"}
    per_dimension = found.pop("kl_per_dimension_nats")
    return {**found, **{f"kl_nats_{number}": value for number, value in enumerate(per_dimension)}}


def ppca(variance):
    """Return a linear VAE with the exact posterior, and its log likelihood: PPCA with orthogonal directions."""
    directions = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(0))).Q
    weight = directions * torch.tensor([1.5, 0.7])  # [6, 2]
    precision = (weight.square().sum(0) + variance) / variance  # variance of p(z|x), diagonal
    model = VAE(LinearEncoder(6, 2), MLPDecoder(2, (), 6), Gaussian(logvar=math.log(variance)))
    mean = torch.linspace(-1, 1, 6)
    with torch.no_grad():
        model.decoder.output.weight.copy_(weight)
        model.decoder.set_output_bias(mean)
        model.encoder.mu.weight.copy_(weight.T / variance / precision[:, None])
        model.encoder.mu.bias.copy_(-model.encoder.mu.weight @ mean)
        model.encoder.logvar.copy_(-precision.log())
    exact = torch.distributions.MultivariateNormal(mean, weight @ weight.T + variance * torch.eye(6))
    return model, exact


@pytest.mark.parametrize("num_samples", [2, 7, 50])
def test_with_the_exact_posterior_the_bound_is_the_log_likelihood_for_every_k(num_samples):
    model, exact = ppca(0.3)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    result = evaluate(model, batches_of(x, 16), num_samples=num_samples)
    log_likelihood = exact.log_prob(x)
    assert result.nll_nats == pytest.approx(-log_likelihood.mean().item(), abs=1e-4)
    assert result.nll_standard_error_nats == pytest.approx(log_likelihood.std(correction=0).item() / 40**0.5, rel=1e-3)


def test_the_elbo_agrees_with_the_exact_log_likelihood_within_its_noise():
    model, exact = ppca(0.3)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    result = evaluate(model, batches_of(x, 16), num_samples=2000)
    assert result.elbo_nats == pytest.approx(exact.log_prob(x).mean().item(), abs=0.02)
    assert result.elbo_nats == -(result.rate_nats + result.distortion_nats)


def test_a_worse_posterior_gives_a_lower_elbo_and_the_bound_closes_the_gap():
    model, exact = ppca(0.3)
    with torch.no_grad():
        model.encoder.logvar += 1.0
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    results = [evaluate(model, batches_of(x, 16), num_samples=k) for k in (1, 5, 50, 2000)]
    bounds = [-result.nll_nats for result in results]
    assert bounds == sorted(bounds)
    truth = exact.log_prob(x).mean().item()
    assert results[-1].elbo_nats < truth - 0.2
    assert bounds[-1] == pytest.approx(truth, abs=0.01)


def test_one_sample_is_the_elbo():
    result = evaluate(small_model(), batches_of(images(10), 4))
    assert result.nll_nats == pytest.approx(-result.elbo_nats)
    assert (result.num_examples, result.num_samples) == (10, 1)


def test_bounds_use_the_noise_of_evaluation():
    model, x = small_model(), images(10)
    terms = model(x, ops.noise_key(0), Draw(evaluation=True))
    result = evaluate(model, batches_of(x, 10))
    assert result.distortion_nats == pytest.approx(terms.distortion.mean().item())
    assert result.distortion_nats != pytest.approx(model(x, ops.noise_key(0)).distortion.mean().item())


@pytest.mark.parametrize(("size", "chunk_rows"), [(10, 10**6), (10, 30), (4, 1), (3, 16), (1, 5)])
@pytest.mark.parametrize("num_samples", [1, 2, 3, 17])
def test_no_score_depends_on_batch_size_or_chunk(size, chunk_rows, num_samples):
    model, x = small_model(), images(10)
    whole = evaluate(model, batches_of(x, 10), num_samples=num_samples, chunk_rows=10**6)
    split = evaluate(model, batches_of(x, size), num_samples=num_samples, chunk_rows=chunk_rows)
    assert numbers(split) == pytest.approx(numbers(whole), rel=1e-6)


def test_chunks_limit_the_rows_decoded_at_a_time():
    model, rows = small_model(), []
    model.decoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    evaluate(model, batches_of(images(10), 10), num_samples=5000, chunk_rows=1000)
    assert max(rows) <= 1000
    assert sum(rows) == 10 * (5000 + 1)


def on_ranks(shares):
    """Evaluate like several ranks, one thread per rank, with a sum over all of them."""
    barrier, slots, results = threading.Barrier(len(shares)), [None] * len(shares), [None] * len(shares)
    models = [small_model() for _ in shares]  # not in the threads: they share the generator of the weights

    def run(rank):
        def all_reduce_sum(tensor):
            slots[rank] = tensor
            barrier.wait(30)
            total = sum(slots)
            barrier.wait(30)
            return total

        results[rank] = evaluate(models[rank], shares[rank], num_samples=3, all_reduce_sum=all_reduce_sum)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("edges", [(0, 10), (0, 5, 10), (0, 4, 7, 10), (0, 10, 10)])
def test_all_ranks_report_the_same_global_result(edges):
    x = images(10)
    alone = evaluate(small_model(), batches_of(x, 10), num_samples=3)
    shares = [batches_of(x, 2, start=a, stop=b) for a, b in pairwise(edges)]
    for result in on_ranks(shares):
        assert numbers(result) == pytest.approx(numbers(alone), rel=1e-6)


def test_bits_per_dimension_include_the_jacobian():
    density = small_model("gaussian")
    nll = evaluate(density, batches_of(images(10), 10)).nll_nats
    bits = evaluate(density, batches_of(images(10), 10), log_jacobian_nats=16 * math.log(17), event_numel=16)
    assert bits.bits_per_dim == pytest.approx((nll + 16 * math.log(17)) / 16 / math.log(2))
    nll = evaluate(small_model(), batches_of(images(10), 10)).nll_nats
    binary = evaluate(small_model(), batches_of(images(10), 10), log_jacobian_nats=0.0, event_numel=16)
    assert binary.bits_per_dim == pytest.approx(nll / 16 / math.log(2))
    assert evaluate(small_model(), batches_of(images(10), 10), event_numel=16).bits_per_dim is None


def test_an_autoencoder_reports_a_squared_error():
    model, x = build_model(ModelConfig(family="autoencoder", hidden_dim=(8,), latent_dim=3), (16,)), images(10)
    result = evaluate(model, batches_of(x, 4), num_samples=50)
    assert result.squared_error == pytest.approx((model.reconstruct(x) - x).square().sum(1).mean().item())
    assert result.num_samples == 1
    assert result.elbo_nats is result.nll_nats is result.bits_per_dim is result.active_units is None


class OwnModule(nn.Module):
    """A minimal user module: forward(batch, noise_key) only."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch, noise_key):
        distortion = (batch.x - self.bias).square().sum(1)
        return VAETerms(z=batch.x, rate=torch.ones_like(distortion), distortion=distortion)


def test_a_module_without_samples_is_evaluated_with_one_sample():
    x = images(10)
    result = evaluate(OwnModule(), batches_of(x, 4), num_samples=50)
    assert result.elbo_nats == pytest.approx(-(1 + x.square().sum(1).mean().item()))
    assert result.num_samples == 1
    assert result.active_units is None


def test_evaluation_restores_the_mode_and_computes_no_gradients():
    for mode in (True, False):
        model = small_model().train(mode)
        seen = []
        model.register_forward_hook(
            lambda module, *_, seen=seen: seen.append((module.training, torch.is_grad_enabled()))
        )
        evaluate(model, batches_of(images(4), 4))
        assert model.training is mode
        assert set(seen) == {(False, False)}


@pytest.mark.parametrize("options", [{"num_samples": 0}, {"chunk_rows": 0}])
def test_invalid_settings_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        evaluate(small_model(), batches_of(images(4), 4), **options)


def test_empty_data_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        evaluate(small_model(), [])
