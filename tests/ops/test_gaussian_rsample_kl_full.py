"""gaussian_rsample_kl with a given prior and with every reduction: the operator gaussian_rsample_kl_full."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastvae.ops import gaussian_rsample_kl, noise_key, reference
from tests.ops.cases import DTYPES, SHAPES, assert_close, gaussian, native_on_cpu, normal, threads

KEY = noise_key(7, 3, 100)
REDUCTIONS = ("example", "dimension", "none", "both")
ONE_BACKEND = native_on_cpu("gaussian_rsample_kl_full") == native_on_cpu("gaussian_rsample_kl")


def four(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Return posterior and prior: mu, logvar, prior_mu, prior_logvar."""
    return [*gaussian(shape, dtype, seed=0), *gaussian(shape, dtype, seed=10)]


def kl_terms(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> Tensor:
    """Compute the KL terms [B, D] with torch.distributions in float64."""
    mu, logvar, prior_mu, prior_logvar = (t.double() for t in (mu, logvar, prior_mu, prior_logvar))
    posterior = torch.distributions.Normal(mu, torch.exp(logvar / 2), validate_args=False)
    prior = torch.distributions.Normal(prior_mu, torch.exp(prior_logvar / 2), validate_args=False)
    terms = torch.distributions.kl_divergence(posterior, prior)
    return terms.reshape(mu.shape[0], math.prod(mu.shape[1:]))


def reduced(terms: Tensor, shape: tuple[int, ...], reduction: str) -> tuple[Tensor, ...]:
    return {
        "example": (terms.sum(1),),
        "dimension": (terms.sum(0),),
        "none": (terms.reshape(shape),),
        "both": (terms.sum(1), terms.sum(0)),
    }[reduction]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_and_gradients(shape: tuple[int, ...], dtype: torch.dtype, reduction: str) -> None:
    inputs = [t.requires_grad_() for t in four(shape, dtype)]
    z, *kls = gaussian_rsample_kl(inputs[0], inputs[1], KEY, *inputs[2:], stream=5, reduction=reduction)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    noise = reference.philox_normal(KEY, shape[0], math.prod(shape[1:]), 5, torch.float64).view(shape)
    true_z = wide[0] + torch.exp(wide[1] / 2) * noise
    truth = reduced(kl_terms(*wide), shape, reduction)
    assert z.dtype == dtype
    assert_close(z, true_z.detach(), dtype)
    weights = [normal(*z.shape, seed=20, dtype=dtype)]
    for i, (kl, true_kl) in enumerate(zip(kls, truth, strict=True)):
        assert kl.dtype == reference.compute_dtype(z)
        assert kl.shape == true_kl.shape
        assert_close(kl, true_kl.detach(), kl.dtype)
        weights.append(normal(*kl.shape, seed=21 + i, dtype=kl.dtype))
    gradients = torch.autograd.grad((z, *kls), inputs, weights)
    true_gradients = torch.autograd.grad((true_z, *truth), wide, [w.double() for w in weights])
    relative = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    for gradient, true_gradient in zip(gradients, true_gradients, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), true_gradient, rtol=relative, atol=max(relative / 100, 1e-5))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_first_and_second_derivatives(reduction: str) -> None:
    inputs = [t.requires_grad_() for t in four((3, 4), torch.float64)]
    for needed in ((0, 1, 2, 3), (0,), (3,), (1, 2)):
        leaves = [t.detach().requires_grad_(i in needed) for i, t in enumerate(inputs)]

        def outputs(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> tuple[Tensor, ...]:
            return gaussian_rsample_kl(mu, logvar, KEY, prior_mu, prior_logvar, reduction=reduction)

        if needed == (3,):  # z does not depend on the prior
            assert torch.autograd.gradcheck(lambda *t: outputs(*t)[1:], leaves)
            assert torch.autograd.gradgradcheck(lambda *t: outputs(*t)[1:], leaves)
        else:
            assert torch.autograd.gradcheck(outputs, leaves)
            assert torch.autograd.gradgradcheck(outputs, leaves)


@pytest.mark.parametrize("reduction", ["dimension", "none", "both"])
def test_the_default_prior_is_the_standard_normal(reduction: str) -> None:
    mu, logvar = (t.requires_grad_() for t in gaussian((9, 31), torch.float32))
    zero = torch.zeros(9, 31)
    results = [
        gaussian_rsample_kl(mu, logvar, KEY, *prior, reduction=reduction)
        for prior in ((), (zero, zero), (zero, None), (None, zero[0]))
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-6, atol=1e-6)
    z, kl = gaussian_rsample_kl(mu, logvar, KEY)
    torch.testing.assert_close(results[0][0], z, rtol=0, atol=1e-6 if ONE_BACKEND else 2e-5)
    if reduction == "both":
        torch.testing.assert_close(results[0][1], kl, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(sum(t.sum() for t in result), (mu, logvar)) for result in results]
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-6, atol=1e-6)


def test_both_reductions_are_bit_equal_to_each_single_one() -> None:
    mu, logvar, *prior = four((37, 51), torch.float32)
    z, kl, kl_per_dimension = gaussian_rsample_kl(mu, logvar, KEY, *prior, reduction="both")
    alone = [gaussian_rsample_kl(mu, logvar, KEY, *prior, reduction=r) for r in ("example", "dimension", "none")]
    assert all(torch.equal(z, other[0]) for other in alone)
    assert torch.equal(kl, alone[0][1])
    assert torch.equal(kl_per_dimension, alone[1][1])
    torch.testing.assert_close(kl, alone[2][1].sum(1))


def test_one_prior_for_all_examples() -> None:
    mu, logvar, prior_mu, prior_logvar = four((6, 2, 5), torch.float64)
    shared = [prior_mu[0].clone().requires_grad_(), prior_logvar[0].clone().requires_grad_()]
    repeated = [t.detach().repeat(6, 1, 1).requires_grad_() for t in shared]
    results = [gaussian_rsample_kl(mu, logvar, KEY, *prior, reduction="both") for prior in (shared, repeated)]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    gradients = [
        torch.autograd.grad(result[1].square().sum() + result[2].sum(), prior)
        for result, prior in zip(results, (shared, repeated), strict=True)
    ]
    for one, many in zip(*gradients, strict=True):
        torch.testing.assert_close(one, many.sum(0))


def test_kl_is_never_negative_and_0_for_equal_distributions() -> None:
    mu, logvar = gaussian((8, 33), torch.float32)
    _, kl = gaussian_rsample_kl(mu, logvar, KEY, mu.clone(), logvar.clone())
    assert (kl == 0).all()
    for dtype in DTYPES:
        mu, logvar = (3 * t for t in gaussian((64, 129), dtype))
        scale = torch.logspace(-7, 0, 64).view(64, 1).to(dtype)
        nudged = (
            mu + scale * normal(64, 129, seed=5, dtype=dtype),
            logvar + scale * normal(64, 129, seed=6, dtype=dtype),
        )
        _, kl, per_dimension = gaussian_rsample_kl(mu, logvar, KEY, *nudged, reduction="both")
        assert (kl >= 0).all()
        assert (per_dimension >= 0).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bits_do_not_depend_on_threads_or_repetition(reduction: str) -> None:
    inputs = four((517, 131), torch.float32)

    def run() -> tuple[Tensor, ...]:
        leaves = [t.clone().requires_grad_() for t in inputs]
        outputs = gaussian_rsample_kl(leaves[0], leaves[1], KEY, *leaves[2:], reduction=reduction)
        return *outputs, *torch.autograd.grad(sum(t.square().sum() for t in outputs), leaves)

    with threads(1):
        one = run()
    for count in (2, 5, 5, 5):
        with threads(count):
            assert all(torch.equal(a, b) for a, b in zip(run(), one, strict=True))


def test_bits_do_not_depend_on_the_batch_split() -> None:
    inputs = four((37, 51), torch.bfloat16)

    def run(rows: slice) -> tuple[Tensor, ...]:
        leaves = [t[rows].clone().requires_grad_() for t in inputs]
        key = noise_key(1, 2, 10 + (rows.start or 0))
        z, kl = gaussian_rsample_kl(leaves[0], leaves[1], key, *leaves[2:])
        return z, kl, *torch.autograd.grad((z.sin().sum(), kl.square().sum()), leaves)

    parts = [run(slice(a, b)) for a, b in ((0, 1), (1, 18), (18, 37))]
    for pieces, whole in zip(zip(*parts, strict=True), run(slice(None)), strict=True):
        assert torch.equal(torch.cat(pieces), whole)


def test_only_the_input_is_saved_for_the_backward() -> None:
    kept: list[Tensor] = []
    inputs = [t.requires_grad_() for t in four((16, 16), torch.float32)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        gaussian_rsample_kl(inputs[0], inputs[1], KEY, *inputs[2:], reduction="both")
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in (*inputs, KEY)}


@pytest.mark.parametrize(("reduction", "with_prior"), [(0, True), (1, False), (2, False), (3, True)])
def test_opcheck(reduction: int, with_prior: bool) -> None:
    mu, logvar, *prior = (t.requires_grad_() for t in four((3, 5), torch.float32))
    inputs = (mu, logvar, *(prior if with_prior else (None, None)), KEY, 3, reduction)
    torch.library.opcheck(torch.ops.fastvae.gaussian_rsample_kl_full.default, inputs)
    grad_z, grad_kl = normal(3, 5, seed=3), normal(*((3, 5) if reduction == 0 else (3,)), seed=4)
    gradients = (
        grad_z.requires_grad_(),
        grad_kl.requires_grad_() if reduction != 2 else None,
        normal(5, seed=5).requires_grad_() if reduction & 2 else None,
    )
    backward = torch.ops.fastvae.gaussian_rsample_kl_full_backward.default
    torch.library.opcheck(backward, (*gradients, *inputs, True, True, with_prior, with_prior))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_compiles_without_a_graph_break(reduction: str) -> None:
    def step(*inputs: Tensor) -> Tensor:
        outputs = gaussian_rsample_kl(inputs[0].tanh(), inputs[1], KEY, *inputs[2:], reduction=reduction)
        return sum(t.square().sum() for t in outputs)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    inputs = [t.requires_grad_() for t in four((4, 6), torch.float32)]
    gradients = torch.autograd.grad(compiled(*inputs), inputs)
    expected = torch.autograd.grad(step(*inputs), inputs)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


X = torch.zeros(5, 7)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reduction": "sum"}, ValueError, "reduction must be one of none, example, dimension, both, got 'sum'"),
        ({"prior_mu": 0.0}, TypeError, "prior_mu must be a Tensor, got float"),
        ({"prior_mu": X[:4]}, ValueError, "prior_mu must have mu's shape [5, 7], got [4, 7]"),
        (
            {"prior_logvar": X[0].double()},
            TypeError,
            "prior_logvar must have mu's dtype torch.float32, got torch.float64; convert one",
        ),
        ({"prior_logvar": X.to("meta")}, ValueError, "prior_logvar must be on mu's device cpu, got meta; move one"),
    ],
)
def test_invalid_input_is_refused(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        gaussian_rsample_kl(X, X, KEY, **options)
    assert str(caught.value) == f"gaussian_rsample_kl: {message}"
