from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastvae.ops import gaussian_rsample_kl, gaussian_rsample_log_ratio, noise_key, reference
from tests.ops.cases import DTYPES, SHAPES, assert_close, gaussian, native_on_cpu, normal, threads

KEY = noise_key(7, 3, 100)
OP = torch.ops.fastvae.gaussian_rsample_log_ratio.default
BACKWARD = torch.ops.fastvae.gaussian_rsample_log_ratio_backward.default
K = 3


def noise_of(shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Return noise [K, *shape] in float64: sample k uses the k-th next stream."""
    columns = math.prod(shape[1:])
    samples = [reference.philox_normal(KEY, shape[0], columns, stream + k, torch.float64) for k in range(K)]
    return torch.stack(samples).view(K, *shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
class TestValues:
    def test_forward(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        mu, logvar = gaussian(shape, dtype)
        z, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, K, stream=5)
        noise, lv = noise_of(shape, 5), logvar.double()
        true_z = mu.double() + torch.exp(lv / 2) * noise
        terms = ((true_z.square() - noise.square() - lv) / 2).view(K, shape[0], math.prod(shape[1:]))
        true_ratio = terms.sum(2)
        assert z.shape == (K, *shape)
        assert z.dtype == dtype
        assert z.is_contiguous()
        assert log_ratio.shape == (K, shape[0])
        assert log_ratio.dtype == reference.compute_dtype(mu)
        assert_close(z, true_z, dtype)
        scale = 1 + terms.abs().sum(2)  # terms of both signs: an absolute error
        tolerance = {torch.float64: 1e-13}.get(dtype, 2e-6)
        assert ((log_ratio.double() - true_ratio).abs() <= tolerance * scale).all()

    def test_backward(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        mu, logvar = (t.requires_grad_() for t in gaussian(shape, dtype))
        outputs = gaussian_rsample_log_ratio(mu, logvar, KEY, K)
        grads = (normal(K, *shape, seed=8, dtype=dtype), normal(K, shape[0], seed=9, dtype=outputs[1].dtype))
        grad_mu, grad_logvar = torch.autograd.grad(outputs, (mu, logvar), grads)
        g_z, g_r = grads[0].double(), grads[1].double().view(K, shape[0], *[1] * (mu.dim() - 1))
        e = torch.exp(logvar.detach().double() / 2) * noise_of(shape)
        z = mu.detach().double() + e
        scale = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
        for gradient, terms in ((grad_mu, g_z + g_r * z), (grad_logvar, (g_z * e + g_r * (z * e - 1)) / 2)):
            assert gradient.dtype == dtype
            assert ((gradient.double() - terms.sum(0)).abs() <= scale * (1 + terms.abs().sum(0))).all()


def test_agrees_with_torch_distributions() -> None:
    mu, logvar = gaussian((6, 9), torch.float64)
    z, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, 5)
    posterior = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    expected = (posterior.log_prob(z) - prior.log_prob(z)).sum(2)
    torch.testing.assert_close(log_ratio, expected, rtol=1e-12, atol=1e-12)


def test_the_mean_of_the_ratio_is_the_kl() -> None:
    mu, logvar = (0.5 * t for t in gaussian((4, 8), torch.float64))
    _, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, 20_000)
    _, kl = gaussian_rsample_kl(mu, logvar, KEY)
    error = log_ratio.std(0) / math.sqrt(20_000)
    assert ((log_ratio.mean(0) - kl).abs() < 5 * error).all()


def test_the_ratio_is_accurate_near_the_prior() -> None:
    mu, logvar = (1e-6 * t for t in gaussian((4, 200), torch.float32))
    _, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, 2)
    _, exact = gaussian_rsample_log_ratio(mu.double(), logvar.double(), KEY, 2)
    torch.testing.assert_close(log_ratio.double(), exact, rtol=0, atol=1e-9)  # of about 1e-5


def test_sample_0_is_the_sample_of_gaussian_rsample_kl() -> None:
    mu, logvar = gaussian((6, 9), torch.float32)
    z, _ = gaussian_rsample_log_ratio(mu, logvar, KEY, 3, stream=256, first_sample=4)
    one_backend = native_on_cpu("gaussian_rsample_log_ratio") == native_on_cpu("gaussian_rsample_kl")
    for k in range(3):
        alone, _ = gaussian_rsample_kl(mu, logvar, KEY, stream=260 + k)
        torch.testing.assert_close(z[k], alone, rtol=0, atol=1e-6 if one_backend else 2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_in_chunks_are_bit_equal_to_all_samples(dtype: torch.dtype) -> None:
    mu, logvar = gaussian((5, 51), dtype)
    whole = gaussian_rsample_log_ratio(mu, logvar, KEY, 11, stream=9)
    chunks = [(0, 1), (1, 4), (5, 6)]
    parts = [gaussian_rsample_log_ratio(mu, logvar, KEY, n, stream=9, first_sample=first) for first, n in chunks]
    for pieces, expected in zip(zip(*parts, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(pieces), expected)


def run(mu: Tensor, logvar: Tensor, first_row: int) -> tuple[Tensor, ...]:
    mu, logvar = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
    z, log_ratio = gaussian_rsample_log_ratio(mu, logvar, noise_key(1, 2, first_row), 7, stream=3)
    gradients = torch.autograd.grad((z.sin().sum(), log_ratio.square().sum()), (mu, logvar))
    return z.detach().movedim(0, 1), log_ratio.detach().t(), *gradients  # rows first


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_batch_split(dtype: torch.dtype) -> None:
    mu, logvar = gaussian((37, 51), dtype)
    whole = run(mu, logvar, 10)
    parts = [run(mu[a:b], logvar[a:b], 10 + a) for a, b in ((0, 1), (1, 18), (18, 37))]
    for pieces, expected in zip(zip(*parts, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(pieces), expected)


def test_bits_do_not_depend_on_threads_or_repetition() -> None:
    mu, logvar = gaussian((100, 299), torch.float32)
    with threads(1):
        one = run(mu, logvar, 0)
    for count in (2, 5):
        with threads(count):
            assert all(torch.equal(a, b) for a, b in zip(run(mu, logvar, 0), one, strict=True))
    first = run(mu[:3], logvar[:3], 0)
    for _ in range(100):
        assert all(torch.equal(a, b) for a, b in zip(run(mu[:3], logvar[:3], 0), first, strict=True))


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("outputs", ["z", "log_ratio", "both"])
class TestGradients:
    def loss(self, outputs: str, mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
        z, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, 2, stream=1, first_sample=3)
        return {"z": (z,), "log_ratio": (log_ratio,), "both": (z, log_ratio)}[outputs]

    def test_first_and_second_derivatives(self, outputs: str, needs: tuple[bool, bool]) -> None:
        inputs = [t.requires_grad_(need) for t, need in zip(gaussian((3, 5), torch.float64), needs, strict=True)]
        assert torch.autograd.gradcheck(lambda m, lv: self.loss(outputs, m, lv), inputs)
        if outputs != "z" or needs[1]:  # z is linear in mu
            assert torch.autograd.gradgradcheck(lambda m, lv: self.loss(outputs, m, lv), inputs)

    def test_only_tensors_that_require_gradients_get_them(self, outputs: str, needs: tuple[bool, bool]) -> None:
        inputs = [t.requires_grad_(need) for t, need in zip(gaussian((3, 5), torch.float32), needs, strict=True)]
        sum(out.sum() for out in self.loss(outputs, *inputs)).backward()
        assert [t.grad is not None for t in inputs] == list(needs)


def test_only_the_input_is_saved_for_the_backward() -> None:
    kept: list[Tensor] = []
    mu, logvar = (t.requires_grad_() for t in gaussian((4, 4), torch.float32))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        gaussian_rsample_log_ratio(mu, logvar, KEY, 100)
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in (mu, logvar, KEY)}


def test_nan_affects_its_row_only() -> None:
    mu, logvar = gaussian((5, 9), torch.float32)
    clean_z, clean_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, K)
    logvar[2, 4] = math.nan
    z, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, K)
    others = [0, 1, 3, 4]
    assert torch.equal(z[:, others], clean_z[:, others])
    assert torch.equal(log_ratio[:, others], clean_ratio[:, others])
    assert log_ratio[:, 2].isnan().all()
    assert z.isnan().sum() == K


def test_strides_do_not_matter() -> None:
    mu, logvar = gaussian((6, 10), torch.float32)
    z, log_ratio = gaussian_rsample_log_ratio(mu.t().contiguous().t(), logvar[:1].expand(6, 10), KEY, K)
    expected = gaussian_rsample_log_ratio(mu, logvar[:1].repeat(6, 1), KEY, K)
    assert torch.equal(z, expected[0])
    assert torch.equal(log_ratio, expected[1])
    assert z.is_contiguous()


@pytest.mark.parametrize("shape", [(3, 5), (0, 4)])
def test_opcheck(shape: tuple[int, ...]) -> None:
    mu, logvar = (t.requires_grad_() for t in gaussian(shape, torch.float32))
    torch.library.opcheck(OP, (mu, logvar, KEY, K, 3, 1))
    grads = (normal(K, *shape, seed=3).requires_grad_(), normal(K, shape[0], seed=4).requires_grad_())
    torch.library.opcheck(BACKWARD, (*grads, mu, logvar, KEY, K, 3, 1, True, True))
    torch.library.opcheck(BACKWARD, (None, grads[1], mu, logvar, KEY, K, 3, 1, True, False))


def test_compiles_without_a_graph_break() -> None:
    def step(mu: Tensor, logvar: Tensor, key: Tensor) -> Tensor:
        z, log_ratio = gaussian_rsample_log_ratio(mu.tanh(), logvar, key, K, stream=2)
        return z.square().sum() + log_ratio.sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    inputs = [t.requires_grad_() for t in gaussian((4, 6), torch.float32)]
    gradients = torch.autograd.grad(compiled(*inputs, KEY), inputs)
    expected = torch.autograd.grad(step(*inputs, KEY), inputs)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


def test_the_ratio_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mu, logvar = (normal(5, 8) @ normal(8, 12, seed=1)).chunk(2, dim=1)
        z, log_ratio = gaussian_rsample_log_ratio(mu, logvar, KEY, K)
    assert z.dtype == torch.bfloat16
    assert log_ratio.dtype == torch.float32


X = torch.zeros(32, 64)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, torch.zeros(32, 65), KEY, 2), {}, ValueError, "logvar must have mu's shape [32, 64], got [32, 65]"),
        ((X, X, KEY, 2.0), {}, TypeError, "num_samples must be an integer, got float"),
        ((X, X, KEY, -1), {}, ValueError, "num_samples must be at least 0, got -1"),
        ((X, X, KEY, 1), {"first_sample": -1}, ValueError, "first_sample must be at least 0, got -1"),
        (
            (X, X, KEY, 65_530),
            {"first_sample": 6, "stream": 1},
            ValueError,
            "stream's sample + first_sample + num_samples must be at most 65536, got 65537; "
            "draw further samples under another step of the key",
        ),
    ],
)
def test_invalid_input_is_refused(arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        gaussian_rsample_log_ratio(*arguments, **options)
    assert str(caught.value) == f"gaussian_rsample_log_ratio: {message}"


def test_no_samples() -> None:
    z, log_ratio = gaussian_rsample_log_ratio(X, X, KEY, 0)
    assert z.shape == (0, 32, 64)
    assert log_ratio.shape == (0, 32)
