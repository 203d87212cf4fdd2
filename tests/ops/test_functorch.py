"""Every operator under `torch.func`: bit-equal to the plain call, and under vmap every row has its own noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import fastvae
from fastvae import ops
from tests.ops.cases import normal

# torch.func.jvp itself uses torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")

B, K, D = 5, 3, 4
KEY = fastvae.noise_key(3, 7, 11)
IMAGE = torch.rand(B, D, generator=torch.Generator().manual_seed(1))
LEVELS = (IMAGE * 255).to(torch.uint8)
COUNTS = (IMAGE * 5).round()
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
    CSR_COUNTS = COUNTS.to_sparse_csr()
MASK = IMAGE > 0.2

Op = Callable[..., tuple[Tensor, ...]]


def kl(mu: Tensor, logvar: Tensor, key: Tensor = KEY) -> tuple[Tensor, ...]:
    return ops.gaussian_rsample_kl(mu, logvar, key, stream=2)


def kl_prior(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> tuple[Tensor, ...]:
    return ops.gaussian_rsample_kl(mu, logvar, KEY, prior_mu, prior_logvar, reduction="none")


def kl_both(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    return ops.gaussian_rsample_kl(mu, logvar, KEY, reduction="both")


def log_ratio(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    return ops.gaussian_rsample_log_ratio(mu, logvar, KEY, K)


def bernoulli(logits: Tensor, target: Tensor = IMAGE, mask: Tensor | None = None) -> tuple[Tensor, ...]:
    return (ops.bernoulli_nll(logits, target, mask),)


def gaussian(mean: Tensor, logvar: Tensor, target: Tensor = IMAGE) -> tuple[Tensor, ...]:
    return (ops.gaussian_nll(mean, target, logvar),)


def logistic(mean: Tensor, log_scale: Tensor, target: Tensor = LEVELS) -> tuple[Tensor, ...]:
    return (ops.discretized_logistic_nll(mean, log_scale, target),)


def multinomial(logits: Tensor, counts: Tensor = COUNTS) -> tuple[Tensor, ...]:
    return (ops.multinomial_nll(logits, counts),)


def multinomial_csr(logits: Tensor) -> tuple[Tensor, ...]:
    return (ops.multinomial_nll(logits, CSR_COUNTS),)


X = tuple(normal(B, D, seed=seed) for seed in range(4))
CASES = {
    "kl": (kl, X[:2]),
    "kl_prior": (kl_prior, X),
    "kl_both": (kl_both, X[:2]),
    "log_ratio": (log_ratio, X[:2]),
    "bernoulli": (bernoulli, X[:1]),
    "bernoulli_masked": (lambda logits: bernoulli(logits, IMAGE, MASK), X[:1]),
    "bernoulli_samples": (bernoulli, (normal(K, B, D),)),
    "gaussian_full": (gaussian, X[:2]),
    "gaussian_per_dimension": (gaussian, (X[0], normal(D))),
    "gaussian_scalar": (gaussian, (X[0], normal(1))),
    "logistic_full": (logistic, X[:2]),
    "logistic_scalar": (logistic, (X[0], normal(1))),
    "multinomial": (multinomial, X[:1]),
    "multinomial_csr": (multinomial_csr, X[:1]),
}


def scalar(op: Op, order: float = 2.0) -> Callable[..., Tensor]:
    return lambda *args: sum(((out.float() - 0.3) ** order).sum() for out in op(*args))  # type: ignore[return-value]


def eager_grad(f: Callable[..., Tensor], args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in args]
    return torch.autograd.grad(f(*leaves), leaves)


def assert_equal(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e), (a - e).abs().max()


@pytest.mark.parametrize("name", CASES)
def test_grad_equals_eager(name: str) -> None:
    op, args = CASES[name]
    found = grad(scalar(op), argnums=tuple(range(len(args))))(*args)
    assert_equal(found, eager_grad(scalar(op), args))


@pytest.mark.parametrize("name", CASES)
def test_jacrev_equals_eager_row_by_row(name: str) -> None:
    op, args = CASES[name]

    def first(*xs: Tensor) -> Tensor:
        return op(*xs)[0]

    found = jacrev(first, argnums=tuple(range(len(args))))(*args)
    leaves = [x.clone().requires_grad_() for x in args]
    out = first(*leaves)
    for place in range(0, out.numel(), 3):
        rows = torch.autograd.grad(out.reshape(-1)[place], leaves, retain_graph=True, allow_unused=True)
        for jacobian, row, x in zip(found, rows, args, strict=True):
            assert torch.equal(jacobian.reshape(-1, *x.shape)[place], torch.zeros_like(x) if row is None else row)


@pytest.mark.parametrize("name", CASES)
def test_jvp_and_jacfwd_agree_with_jacrev(name: str) -> None:
    op, args = CASES[name]
    double = tuple(x.double() for x in args)
    last = lambda *xs: op(*xs)[-1]  # noqa: E731
    if name.startswith(("gaussian", "logistic", "bernoulli", "multinomial")):
        double = args
    forward, reverse = (jac(last, argnums=tuple(range(len(args))))(*double) for jac in (jacfwd, jacrev))
    for f, r in zip(forward, reverse, strict=True):
        torch.testing.assert_close(f, r, rtol=1e-4, atol=1e-4)
    value, tangent = jvp(last, double, tuple(torch.ones_like(x) for x in double))
    assert torch.equal(value, last(*double))
    expected = sum(r.flatten(value.dim()).sum(-1) for r in reverse)
    torch.testing.assert_close(tangent, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_hessian_is_eagers(name: str) -> None:
    op, args = CASES[name]
    f = scalar(op)
    found = hessian(f)(*args)
    expected = torch.autograd.functional.hessian(lambda x: f(x, *args[1:]), args[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["kl", "kl_prior", "log_ratio"])
def test_vmap_over_rows_uses_the_noise_of_each_row(name: str) -> None:
    op, args = CASES[name]
    found = vmap(lambda *row: op(*(x[None] for x in row)))(*args)
    expected = op(*args)
    squeezed = [x.squeeze(2 if name == "log_ratio" else 1) for x in found]
    if name == "log_ratio":
        squeezed = [x.transpose(0, 1) for x in squeezed]
    assert_equal(tuple(squeezed), expected)
    assert (
        len(
            {
                tuple(row.tolist())
                for row in (found[0] - args[0].reshape(B, *[1] * (found[0].dim() - 2), D)).reshape(-1, D)
            }
        )
        > B - 1
    )


def test_nested_vmap_continues_the_row_index() -> None:
    mu, logvar = normal(2, 3, B, D), normal(2, 3, B, D, seed=1)
    z, rate = vmap(vmap(kl))(mu, logvar)
    assert_equal((z.flatten(0, 2), rate.flatten()), kl(mu.flatten(0, 2), logvar.flatten(0, 2)))


def test_row_indices_continue_in_reductions() -> None:
    mu, logvar = normal(3, B, D), normal(3, B, D, seed=1)
    z, rate, by_dimension = vmap(kl_both)(mu, logvar)
    whole, rates, _ = kl_both(mu.flatten(0, 1), logvar.flatten(0, 1))
    assert_equal((z.flatten(0, 1), rate.flatten()), (whole, rates))
    assert torch.equal(by_dimension[1], kl_both(mu[1], logvar[1])[2])


def test_mapped_keys_are_used_unchanged() -> None:
    keys = torch.stack([fastvae.noise_key(s, 1, 5) for s in range(B)])
    z, rate = vmap(lambda m, lv, key: kl(m[None], lv[None], key))(*X[:2], keys)
    for i in range(B):
        assert_equal((z[i], rate[i]), kl(X[0][i : i + 1], X[1][i : i + 1], keys[i]))
    noise = vmap(lambda key: ops.philox_normal(key, 2, 3))(keys)
    assert torch.equal(noise, torch.stack([ops.philox_normal(key, 2, 3) for key in keys]))


def test_vmap_of_one_operand_and_of_another_dimension() -> None:
    mu, logvar = normal(B, 3, D), normal(B, D, seed=1)
    z, _ = vmap(kl, in_dims=(1, None), out_dims=1)(mu, logvar)
    expected, _ = kl(mu.transpose(0, 1).flatten(0, 1), logvar.repeat(3, 1))
    assert torch.equal(z.transpose(0, 1).flatten(0, 1), expected)
    assert [tuple(x.shape) for x in vmap(kl)(normal(0, B, D), normal(0, B, D))] == [(0, B, D), (0, B)]


@pytest.mark.parametrize("parameter", ["full", "dimension", "scalar"])
def test_vmap_of_likelihoods(parameter: str) -> None:
    shape = {"full": (B, D), "dimension": (D,), "scalar": (1,)}[parameter]
    p = normal(*shape, seed=4)
    for op, data in ((gaussian, IMAGE), (logistic, LEVELS)):
        if parameter == "full":
            found = vmap(lambda m, q, t, op=op: op(m[None], q[None], t[None])[0])(X[0], p, data)
        else:
            found = vmap(lambda m, t, op=op: op(m[None], p, t[None])[0])(X[0], data)
        assert torch.equal(found.squeeze(1), op(X[0], p)[0])
        samples = vmap(lambda m, op=op: op(m, p)[0])(X[0].expand(K, B, D))
        assert torch.equal(samples, op(X[0], p)[0].expand(K, B))
        mapped = normal(3, *shape, seed=4)
        assert torch.equal(vmap(lambda q, op=op: op(X[0], q)[0])(mapped), torch.stack([op(X[0], q)[0] for q in mapped]))


@pytest.mark.parametrize("op", [bernoulli, multinomial])
def test_vmap_of_logits(op: Op) -> None:
    data = IMAGE if op is bernoulli else COUNTS
    found = vmap(lambda x, t: op(x[None], t[None])[0])(X[0], data)
    assert torch.equal(found.squeeze(1), op(X[0])[0])
    assert torch.equal(vmap(lambda x: op(x)[0])(X[0].expand(K, B, D)), op(X[0])[0].expand(K, B))


@pytest.mark.parametrize("name", ["kl", "log_ratio", "gaussian_full", "gaussian_scalar", "gaussian_per_dimension"])
def test_per_example_gradients_equal_those_of_single_examples(name: str) -> None:
    op, args = CASES[name]
    is_row = [x.shape == (B, D) for x in args]

    def loss(*row: Tensor) -> Tensor:
        parts = [x[None] if r else x for x, r in zip(row, is_row, strict=True)]
        if op is gaussian:
            return scalar(lambda *xs: gaussian(xs[0], xs[1], IMAGE[:1]))(*parts)
        return scalar(op)(*parts)

    places = tuple(range(len(args)))
    in_dims = tuple(0 if r else None for r in is_row)
    found = vmap(grad(loss, argnums=places), in_dims=in_dims)(*args)
    for i in range(B):
        key = fastvae.noise_key(3, 7, 11 + i)

        def one(*row: Tensor, key: Tensor = key) -> Tensor:
            parts = [x[None] if r else x for x, r in zip(row, is_row, strict=True)]
            if op is kl:
                return scalar(lambda *xs: kl(*xs, key))(*parts)
            if op is log_ratio:
                return scalar(lambda *xs: ops.gaussian_rsample_log_ratio(*xs, key, K))(*parts)
            return loss(*row)

        assert_equal(
            tuple(g[i] for g in found),
            eager_grad(one, tuple(x[i] if r else x for x, r in zip(args, is_row, strict=True))),
        )


def test_grad_of_vmap_equals_that_of_the_batch() -> None:
    def mapped(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
        return vmap(lambda *row: kl(*(x[None] for x in row)))(mu, logvar)

    found = grad(scalar(mapped), argnums=(0, 1))(*X[:2])
    assert_equal(found, eager_grad(scalar(kl), X[:2]))
    assert_equal(eager_grad(scalar(mapped), X[:2]), found)


def test_forward_mode_outside_of_torch_func() -> None:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X[0], torch.ones_like(X[0]))
        z, rate = (torch.autograd.forward_ad.unpack_dual(out) for out in kl(dual, X[1]))
    assert torch.equal(z.tangent, torch.ones(B, D))
    torch.testing.assert_close(rate.tangent, X[0].sum(1))


def test_compiled_vmap_uses_the_noise_of_each_row() -> None:
    compiled = torch.compile(vmap(lambda m, lv: kl(m[None], lv[None])), backend="eager", fullgraph=True)
    z, rate = compiled(*X[:2])
    assert_equal((z.squeeze(1), rate.squeeze(1)), kl(*X[:2]))


def test_a_model_under_functional_call() -> None:
    from fastvae.models import VAE  # noqa: F401  (the whole model goes through the same operators)

    layer = torch.nn.Linear(D, 2 * D)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, key: Tensor) -> Tensor:
        mu, logvar = functional_call(layer, parameters, (x[None],)).chunk(2, dim=-1)
        z, rate = ops.gaussian_rsample_kl(mu, logvar, key)
        return (rate + ops.bernoulli_nll(z, x[None].clamp(0, 1))).sum()

    per_example = vmap(grad(loss), in_dims=(None, 0, None))(parameters, IMAGE, KEY)
    for p in layer.parameters():
        p.grad = None
    mu, logvar = layer(IMAGE).chunk(2, dim=-1)
    z, rate = ops.gaussian_rsample_kl(mu, logvar, KEY)
    (rate + ops.bernoulli_nll(z, IMAGE)).sum().backward()
    torch.testing.assert_close(per_example["bias"].sum(0), layer.bias.grad)
