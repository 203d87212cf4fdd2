"""The operators in users' programs: gradients with respect to the data, mixed dtypes under autocast, export."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev, vmap

import fastvae
from fastvae import ops
from fastvae.likelihoods import Bernoulli
from fastvae.likelihoods.gaussian import BoundGaussian
from fastvae.ops import reference
from tests.ops.cases import normal

B, K, D = 4, 3, 6
KEY = fastvae.noise_key(3, 7, 11)
IMAGE = torch.rand(B, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MASK = IMAGE > 0.3
MEAN, PARAMETER = normal(B, D, dtype=torch.float64), normal(B, D, seed=1, dtype=torch.float64)
SAMPLES = normal(K, B, D, dtype=torch.float64)

# As functions of the data, by the operator and by the formula in plain PyTorch.
BY_DATA: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "bernoulli": (lambda x: ops.bernoulli_nll(MEAN, x), lambda x: reference.bernoulli_nll(MEAN, x, None)),
    "bernoulli_samples_masked": (
        lambda x: ops.bernoulli_nll(SAMPLES, x, MASK),
        lambda x: reference.bernoulli_nll(SAMPLES, x, MASK),
    ),
    "gaussian": (
        lambda x: ops.gaussian_nll(SAMPLES, x, PARAMETER[0], MASK),
        lambda x: reference.gaussian_nll(SAMPLES, x, PARAMETER[0], MASK),
    ),
    "logistic": (
        lambda x: ops.discretized_logistic_nll(MEAN, PARAMETER, x * 255),
        lambda x: reference.discretized_logistic_nll(MEAN, PARAMETER, x * 255, None, 256),
    ),
    "multinomial": (
        lambda x: ops.multinomial_nll(SAMPLES, x),
        lambda x: reference.multinomial_nll(SAMPLES, x)[0],
    ),
}


@pytest.mark.parametrize("name", BY_DATA)
def test_data_that_require_gradients_get_them(name: str) -> None:
    by_operator, by_formula = BY_DATA[name]
    data, again = IMAGE.clone().requires_grad_(), IMAGE.clone().requires_grad_()
    value = by_operator(data)
    assert torch.equal(value, by_operator(IMAGE))  # the value is bit-equal
    found = torch.autograd.grad(value.square().sum(), data)[0]
    torch.testing.assert_close(found, torch.autograd.grad(by_formula(again).square().sum(), again)[0])
    with torch.no_grad():
        assert not by_operator(data).requires_grad


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
@pytest.mark.parametrize("name", BY_DATA)
def test_derivatives_by_data_under_torch_func(name: str) -> None:
    by_operator, by_formula = BY_DATA[name]
    expected = jacrev(by_formula)(IMAGE)
    torch.testing.assert_close(jacrev(by_operator)(IMAGE), expected)
    torch.testing.assert_close(jacfwd(by_operator)(IMAGE), expected)


def test_an_input_may_also_be_the_target() -> None:
    layer = torch.nn.Linear(D, D)
    image = IMAGE.float().requires_grad_()
    ops.bernoulli_nll(layer(image), image).sum().backward()
    logits = layer(image)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, image, reduction="sum")
    torch.testing.assert_close(image.grad, torch.autograd.grad(expected, image)[0])


def test_excluded_items_keep_their_value() -> None:
    counts = torch.tensor([[2.0, 3.0, 0.0]], requires_grad=True)
    logits = torch.tensor([[0.0, 1.0, -float("inf")]])
    assert torch.equal(ops.multinomial_nll(logits, counts), ops.multinomial_nll(logits, counts.detach()))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_compressed_counts_get_no_gradient() -> None:
    counts = torch.ones(B, D).to_sparse_csr().requires_grad_()
    with pytest.raises(ValueError, match=r"^multinomial_nll: counts in compressed rows get no gradient; give "):
        ops.multinomial_nll(torch.zeros(B, D), counts)


MIXED: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "gaussian_rsample_kl": lambda mu, logvar: ops.gaussian_rsample_kl(mu, logvar, KEY),
    "gaussian_rsample_log_ratio": lambda mu, logvar: ops.gaussian_rsample_log_ratio(mu, logvar, KEY, 2),
    "gaussian_nll": lambda mean, logvar: (ops.gaussian_nll(mean, IMAGE.float(), logvar),),
    "discretized_logistic_nll": lambda mean, s: (ops.discretized_logistic_nll(mean, s, (IMAGE * 255).byte()),),
}


@pytest.mark.parametrize(("first", "second"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
@pytest.mark.parametrize("name", MIXED)
def test_autocast_promotes_mixed_dtypes(name: str, first: torch.dtype, second: torch.dtype) -> None:
    leaves = [MEAN.to(first).requires_grad_(), PARAMETER.to(second).requires_grad_()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = MIXED[name](*leaves)
    expected = MIXED[name](*(x.float() for x in leaves))
    for f, e in zip(found, expected, strict=True):
        assert torch.equal(f, e)
    gradients = torch.autograd.grad(sum(x.sum() for x in found), leaves)  # type: ignore[arg-type]
    assert [g.dtype for g in gradients] == [first, second]


def test_autocast_promotes_a_learned_prior() -> None:
    mu, logvar = MEAN.bfloat16(), PARAMETER.bfloat16()
    prior = torch.nn.Parameter(torch.zeros(D)), torch.nn.Parameter(torch.ones(D))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, rate = ops.gaussian_rsample_kl(mu, logvar, KEY, *prior)
    assert z.dtype == torch.float32
    assert torch.equal(rate, ops.gaussian_rsample_kl(mu.float(), logvar.float(), KEY, *prior)[1])
    rate.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in prior)


def test_mixed_dtypes_outside_of_autocast_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^gaussian_rsample_kl: logvar must have mu's dtype torch.bfloat16, got "):
        ops.gaussian_rsample_kl(MEAN.bfloat16(), PARAMETER.float(), KEY)


@pytest.mark.parametrize("num_samples", [None, 3])
def test_export_with_a_dynamic_batch_that_may_equal_an_events_size(num_samples: int | None) -> None:
    class Loss(torch.nn.Module):
        def forward(self, mu: Tensor, logvar: Tensor, image: Tensor, key: Tensor) -> Tensor:
            if num_samples is None:
                z, rate = ops.gaussian_rsample_kl(mu, logvar, key)
            else:
                z, rate = ops.gaussian_rsample_log_ratio(mu, logvar, key, num_samples)
            return rate - Bernoulli()(z).log_prob(image) - BoundGaussian(z, torch.zeros(D)).log_prob(image)

    args = (normal(B, D), normal(B, D, seed=1), IMAGE.float(), KEY)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(Loss(), args, dynamic_shapes=({0: batch}, {0: batch}, {0: batch}, None))
    for size in (2, 3, D, D * D):  # as many examples as samples, as numbers of an event, and more
        inputs = normal(size, D, seed=5), normal(size, D, seed=6), normal(size, D, seed=7).sigmoid(), KEY
        assert torch.equal(program.module()(*inputs), Loss()(*inputs))


def test_vmap_of_dropout_without_a_mapped_key_uses_one_mask() -> None:
    """A key that is not mapped gives every example the same noise if no argument of the operator is mapped."""
    uniform = vmap(lambda x: x + ops.philox_uniform(KEY, 1, D))(torch.zeros(B, 1, D))
    assert torch.equal(uniform, ops.philox_uniform(KEY, 1, D).expand(B, 1, D))
