import math

import pytest
import torch

from fastvae.objective import (
    FreeBits,
    ObjectiveConfig,
    build_objective,
    elbo,
    free_bits_mask,
    iw_bound,
    kl_weight_at,
    log_mean_exp,
)
from fastvae.records import VAETerms


def terms_of(*shape, seed=0, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    rate, distortion = (torch.rand(shape, generator=generator, dtype=torch.float64) * 5 for _ in range(2))
    return VAETerms(
        z=torch.zeros(*shape, 2),
        rate=rate.requires_grad_(requires_grad),
        distortion=distortion.requires_grad_(requires_grad),
    )


def latent_terms(kl):
    """Terms whose per-dimension KL is the leaf ``kl`` [B, D] and whose distortion is 1."""
    return VAETerms(
        z=torch.zeros_like(kl), rate=kl.sum(1), distortion=torch.ones(len(kl)), rate_per_dimension=kl.sum(0)
    )


def test_elbo_does_not_depend_on_the_kl_weight():
    terms = terms_of(6)
    objective = elbo(terms, 0.25)
    torch.testing.assert_close(objective.loss, terms.distortion + 0.25 * terms.rate)
    torch.testing.assert_close(objective.elbo, -(terms.rate + terms.distortion))
    assert torch.equal(objective.rate, terms.rate)
    assert torch.equal(objective.distortion, terms.distortion)


def test_elbo_is_the_mean_over_samples():
    terms = terms_of(3, 6)
    objective = elbo(terms)
    torch.testing.assert_close(objective.loss, (terms.rate + terms.distortion).mean(0))
    assert objective.rate.shape == objective.distortion.shape == (6,)


@pytest.mark.parametrize(("objective", "shape"), [(elbo, (6,)), (elbo, (3, 6)), (iw_bound, (3, 6))])
def test_a_penalty_is_in_the_loss_and_not_in_the_elbo(objective, shape):
    terms = terms_of(*shape)
    plain = objective(terms, 0.5)
    terms.penalty = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    found, mean = objective(terms, 0.5), terms.penalty.reshape(-1, 6).mean(0)
    torch.testing.assert_close(found.loss, plain.loss + mean)
    assert torch.equal(found.elbo, plain.elbo)
    torch.testing.assert_close(found.penalty, mean.detach())
    assert not found.penalty.requires_grad
    assert plain.penalty is None
    found.loss.sum().backward()
    assert terms.penalty.grad.sum() == pytest.approx(6)


def test_only_the_loss_has_a_gradient():
    terms = terms_of(3, 6, requires_grad=True)
    for objective in (elbo(terms), iw_bound(terms)):
        assert objective.loss.requires_grad
        assert not any(t.requires_grad for t in (objective.elbo, objective.rate, objective.distortion))


def test_iw_bound_is_the_log_mean_of_the_weights():
    terms = terms_of(7, 5)
    weights = torch.exp(-terms.rate - terms.distortion)
    torch.testing.assert_close(iw_bound(terms).loss, -torch.log(weights.mean(0)))


def test_iw_bound_does_not_underflow():
    terms = terms_of(7, 5)
    far = VAETerms(z=terms.z, rate=terms.rate, distortion=terms.distortion + 5000)
    torch.testing.assert_close(iw_bound(far).loss, iw_bound(terms).loss + 5000)


def test_iw_bound_is_tighter_with_more_samples_and_at_least_the_elbo():
    terms = terms_of(512, 50)
    bounds = [-log_mean_exp(-(terms.rate + terms.distortion).reshape(k, -1)).mean().item() for k in (1, 2, 8, 64, 512)]
    assert bounds == sorted(bounds, reverse=True)
    assert (iw_bound(terms).loss <= elbo(terms).loss).all()


def test_iw_bound_has_the_gradient_of_the_paper():
    terms = terms_of(4, 3, requires_grad=True)
    iw_bound(terms).loss.sum().backward()
    normalised = torch.softmax(-(terms.rate + terms.distortion).detach(), dim=0)  # Burda et al. 2016, equation 14
    torch.testing.assert_close(terms.rate.grad, normalised)
    torch.testing.assert_close(terms.distortion.grad, normalised)


def test_iw_bound_requires_samples():
    with pytest.raises(ValueError, match=r"iw_bound: .*got \[6\].*num_samples"):
        iw_bound(terms_of(6))


def test_the_config_selects_the_objective():
    terms = terms_of(3, 6)
    assert torch.equal(build_objective(ObjectiveConfig(num_samples=3), terms).loss, iw_bound(terms).loss)
    assert torch.equal(build_objective(ObjectiveConfig(), terms, kl_weight=0.5).loss, elbo(terms, 0.5).loss)


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (ObjectiveConfig(kl_weight=0.3), {0: 0.3, 1000: 0.3}),
        (ObjectiveConfig(kl_schedule="linear", kl_warmup=10), {0: 0.0, 1: 0.1, 5: 0.5, 10: 1.0, 99: 1.0}),
        (
            ObjectiveConfig(kl_schedule="cyclical", kl_warmup=5, kl_cycle=10, kl_weight=2.0),
            {0: 0.0, 4: 1.6, 5: 2.0, 9: 2.0, 10: 0.0, 12: 0.8, 20: 0.0},
        ),
    ],
)
def test_kl_weight_schedules(config, weights):
    assert {step: kl_weight_at(config, step) for step in weights} == pytest.approx(weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples .*got 0"),
        ({"kl_weight": -1.0}, "kl_weight.*got -1.0"),
        ({"kl_schedule": "linear"}, "kl_schedule='linear'.*kl_warmup"),
        ({"kl_schedule": "cyclical", "kl_warmup": 5}, "kl_cycle .*5.* got None"),
        ({"kl_schedule": "cyclical", "kl_warmup": 5, "kl_cycle": 4}, "kl_cycle .*got 4"),
        ({"free_bits": -0.1}, "free_bits=-0.1"),
        ({"free_bits": 0.5, "num_samples": 5}, "free_bits=0.5.*num_samples=5"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**settings)


def test_free_bits_use_the_maximum_of_floor_and_kl():
    kl = torch.tensor([[0.1, 2.0, 0.5], [0.3, 4.0, 0.1]], requires_grad=True)
    mask = free_bits_mask(kl.mean(0), 0.25)
    assert mask.tolist() == [False, True, True]
    objective = elbo(latent_terms(kl), 0.5, free_bits=FreeBits(floor_nats=0.25, mask=mask))
    expected = 1 + 0.5 * torch.maximum(kl.mean(0), torch.tensor(0.25)).sum()
    torch.testing.assert_close(objective.loss.mean(), expected)
    torch.testing.assert_close(objective.rate, kl.sum(1).detach())
    objective.loss.sum().backward()
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.5, 0.5]]).expand(2, 3))


@pytest.mark.parametrize("sizes", [(10,), (5, 5), (4, 3, 3), (10, 0), (1, 9)])
def test_free_bits_do_not_depend_on_how_the_batch_is_split(sizes):
    kl = torch.rand(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    free_bits = FreeBits(floor_nats=0.5, mask=free_bits_mask(kl.mean(0), 0.5))
    assert 0 < free_bits.mask.sum() < 4
    whole, split = kl.clone().requires_grad_(), kl.clone().requires_grad_()
    loss = elbo(latent_terms(whole), free_bits=free_bits).loss.sum() / 10
    shares = sum(elbo(latent_terms(part), free_bits=free_bits).loss.sum() / 10 for part in split.split(sizes))
    torch.testing.assert_close(shares, loss)
    loss.backward()
    shares.backward()
    torch.testing.assert_close(split.grad, whole.grad)


@pytest.mark.parametrize("free_bits", [None, FreeBits(floor_nats=0.5, mask=torch.tensor([True, False]))])
def test_an_empty_batch_gives_an_empty_loss_with_zero_gradients(free_bits):
    weight = torch.ones(2, requires_grad=True)
    objective = elbo(latent_terms(torch.zeros(0, 2) * weight), free_bits=free_bits)
    assert objective.loss.shape == objective.elbo.shape == (0,)
    objective.loss.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(2))


def test_an_empty_batch_with_free_bits_has_zero_gradients():
    per_dimension = torch.zeros(2, requires_grad=True)
    terms = VAETerms(
        z=torch.zeros(0, 2), rate=torch.zeros(0), distortion=torch.zeros(0), rate_per_dimension=per_dimension
    )
    elbo(terms, free_bits=FreeBits(floor_nats=0.5, mask=torch.tensor([True, False]))).loss.sum().backward()
    assert torch.equal(per_dimension.grad, torch.zeros(2))


def test_free_bits_require_the_rate_per_dimension():
    with pytest.raises(ValueError, match="per_dimension=True"):
        elbo(terms_of(6), free_bits=FreeBits(floor_nats=0.5, mask=torch.ones(2, dtype=torch.bool)))


def test_log_mean_exp_of_equal_weights_is_that_weight():
    torch.testing.assert_close(log_mean_exp(torch.full((5, 2), -math.pi)), torch.full((2,), -math.pi))
