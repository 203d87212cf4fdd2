from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from fastvae.ops import gaussian_rsample_kl, noise_key, philox_normal, reference
from tests.ops.cases import DTYPES, SHAPES, assert_close, gaussian, normal, threads

KEY = noise_key(7, 3, 100)
OP = torch.ops.fastvae.gaussian_rsample_kl.default
BACKWARD = torch.ops.fastvae.gaussian_rsample_kl_backward.default


def truth(mu: Tensor, logvar: Tensor, key: Tensor = KEY, stream: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Compute (z, KL, noise) in float64, independently of the implementation."""
    m, lv = mu.detach().double().flatten(1 if mu.dim() > 1 else 0), logvar.detach().double()
    m, lv = m.reshape(mu.shape[0], -1 if m.numel() else 0), lv.reshape(mu.shape[0], -1 if m.numel() else 0)
    noise = reference.philox_normal(key, m.shape[0], m.shape[1], stream, torch.float64)
    kl = (m.square() + torch.special.expm1(lv) - lv).sum(1) / 2
    return (m + torch.exp(lv / 2) * noise).reshape(mu.shape), kl, noise.reshape(mu.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
class TestValues:
    def test_forward(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        mu, logvar = gaussian(shape, dtype)
        z, kl = gaussian_rsample_kl(mu, logvar, KEY, stream=5)
        true_z, true_kl, _ = truth(mu, logvar, stream=5)
        assert z.shape == mu.shape
        assert z.dtype == dtype
        assert z.is_contiguous()
        assert kl.shape == (shape[0],)
        assert kl.dtype == reference.compute_dtype(mu)
        assert_close(z, true_z, dtype)
        assert_close(kl, true_kl, kl.dtype)  # for each input dtype: summed in float32 at least

    def test_backward(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        mu, logvar = (t.requires_grad_() for t in gaussian(shape, dtype))
        z, kl = gaussian_rsample_kl(mu, logvar, KEY)
        grad_z, grad_kl = normal(*shape, seed=8, dtype=dtype), normal(shape[0], seed=9, dtype=kl.dtype)
        grad_mu, grad_logvar = torch.autograd.grad((z, kl), (mu, logvar), (grad_z, grad_kl))
        _, _, noise = truth(mu, logvar)
        g_z, g_kl = grad_z.double(), grad_kl.double().view(-1, *[1] * (mu.dim() - 1))
        lv = logvar.detach().double()
        assert grad_mu.dtype == grad_logvar.dtype == dtype
        assert_close(grad_mu, g_z + g_kl * mu.detach().double(), dtype)
        assert_close(grad_logvar, (g_z * noise * torch.exp(lv / 2) + g_kl * torch.expm1(lv)) / 2, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_range(dtype: torch.dtype) -> None:
    logvar = torch.linspace(-30, 20, 501).to(dtype).repeat(5, 1)
    mu = torch.tensor([-1e3, -1.0, 0.0, 1e-3, 1e3]).to(dtype).view(5, 1).expand(5, 501)
    z, kl = gaussian_rsample_kl(mu, logvar, KEY)
    true_z, true_kl, _ = truth(mu, logvar)
    info = torch.finfo(dtype)
    inside = true_z.abs() < info.max
    scale = mu.double().abs() + torch.exp(logvar.double() / 2)
    relative = {torch.float64: 1e-14, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    allowed = relative * scale + info.tiny * info.eps  # the absolute part: the smallest half floats
    assert ((z.double() - true_z).abs() <= allowed)[inside].all()
    torch.testing.assert_close(kl.double(), true_kl, rtol=1e-6, atol=0)


def exact_kl(mu: float, logvar: float) -> float:
    with mpmath.workdps(60):
        m, lv = mpmath.mpf(mu), mpmath.mpf(logvar)
        return float((m * m + mpmath.exp(lv) - 1 - lv) / 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_kl_is_accurate_at_every_logvar(dtype: torch.dtype, tolerance: float) -> None:
    near = torch.logspace(-15, 0, 200, dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    edges = torch.stack((one, torch.nextafter(one, 2 * one), torch.nextafter(one, 0 * one), one / 2, one / 4))
    logvar = torch.cat((near, -near, edges, -edges, torch.linspace(-30, 20, 400, dtype=torch.float64))).to(dtype)
    _, kl = gaussian_rsample_kl(torch.zeros_like(logvar), logvar, KEY)
    exact = torch.tensor([exact_kl(0.0, lv) for lv in logvar.tolist()], dtype=torch.float64)
    inside = exact > torch.finfo(dtype).tiny  # below, a float32 has few digits or none
    torch.testing.assert_close(kl[inside].double(), exact[inside], rtol=tolerance, atol=0)
    assert (kl >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_is_never_negative_and_0_at_the_prior(dtype: torch.dtype) -> None:
    scale = torch.logspace(-7, 0, 64).view(64, 1)
    mu, logvar = (scale * normal(64, 129, seed=seed) for seed in (1, 2))
    _, kl = gaussian_rsample_kl(mu.to(dtype), logvar.to(dtype), KEY)
    assert (kl >= 0).all()
    _, at_prior = gaussian_rsample_kl(torch.zeros(3, 50, dtype=dtype), torch.zeros(3, 50, dtype=dtype), KEY)
    assert at_prior.tolist() == [0, 0, 0]


def test_kl_of_bfloat16_is_summed_in_float32() -> None:
    mu, logvar = (0.01 * t for t in gaussian((8, 1000), torch.bfloat16))
    _, kl = gaussian_rsample_kl(mu, logvar, KEY)
    _, kl_float = gaussian_rsample_kl(mu.float(), logvar.float(), KEY)
    assert torch.equal(kl, kl_float)


def test_agrees_with_torch_distributions() -> None:
    mu, logvar = gaussian((6, 9), torch.float64)
    _, kl = gaussian_rsample_kl(mu, logvar, KEY)
    posterior = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    torch.testing.assert_close(kl, torch.distributions.kl_divergence(posterior, prior).sum(1), rtol=1e-12, atol=1e-12)


def test_the_noise_is_philox_normal_bit_for_bit() -> None:
    zero = torch.zeros(17, 30)
    z, _ = gaussian_rsample_kl(zero, zero, KEY, stream=77)
    assert torch.equal(z, philox_normal(KEY, 17, 30, stream=77))
    z64, _ = gaussian_rsample_kl(zero.double(), zero.double(), KEY, stream=77)
    expected = reference.philox_normal(KEY, 17, 30, 77, torch.float64)
    torch.testing.assert_close(z64, expected, rtol=1e-13, atol=1e-14)
    for dtype in (torch.bfloat16, torch.float16):
        z16, _ = gaussian_rsample_kl(zero.to(dtype), zero.to(dtype), KEY, stream=77)
        assert torch.equal(z16, z.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_backward_draws_the_same_noise_bit_for_bit(dtype: torch.dtype) -> None:
    mu = torch.zeros(65, 103, dtype=dtype)
    logvar = torch.zeros(65, 103, dtype=dtype, requires_grad=True)
    z, _ = gaussian_rsample_kl(mu, logvar, KEY)
    z.sum().backward()
    assert logvar.grad is not None
    assert torch.equal(2 * logvar.grad, z.detach())  # s = 1, and halving is exact


def test_huge_logvar_and_nan_as_documented() -> None:
    logvar = torch.tensor([[0.0, 80.0], [0.0, 100.0], [0.0, 400.0], [math.inf, 0.0], [math.nan, 0.0], [0.0, -math.inf]])
    mu = torch.zeros_like(logvar)
    z, kl = gaussian_rsample_kl(mu, logvar, KEY)
    assert kl[0].isfinite()
    assert kl[1] == kl[2] == kl[3] == kl[5] == math.inf
    assert kl[4].isnan()
    assert z[:2].isfinite().all()
    assert z[2, 1].isinf()
    assert z[4, 0].isnan()
    assert z[4, 1].isfinite()
    assert z[5, 1] == 0


def test_nan_affects_its_row_and_its_gradient_only() -> None:
    mu, logvar = gaussian((5, 9), torch.float32)
    clean_z, clean_kl = gaussian_rsample_kl(mu, logvar, KEY)
    mu[2, 4] = math.nan
    mu.requires_grad_()
    z, kl = gaussian_rsample_kl(mu, logvar, KEY)
    others = [0, 1, 3, 4]
    assert torch.equal(z[others], clean_z[others])
    assert torch.equal(kl[others], clean_kl[others])
    assert kl[2].isnan()
    assert torch.equal(z.isnan(), mu.isnan())
    kl.sum().backward()
    assert mu.grad is not None
    assert torch.equal(mu.grad.isnan(), mu.isnan())


def test_an_infinite_kl_gradient_does_not_affect_an_unused_kl() -> None:
    logvar = torch.tensor([[100.0, 0.0]], requires_grad=True)
    z, _ = gaussian_rsample_kl(torch.zeros(1, 2), logvar, KEY)
    z.sum().backward()
    assert logvar.grad is not None
    assert logvar.grad.isfinite().all()


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("outputs", ["z", "kl", "both"])
class TestGradients:
    def loss(self, outputs: str, mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
        z, kl = gaussian_rsample_kl(mu, logvar, KEY, stream=1)
        return {"z": (z,), "kl": (kl,), "both": (z, kl)}[outputs]

    def test_first_and_second_derivatives(self, outputs: str, needs: tuple[bool, bool]) -> None:
        inputs = [t.requires_grad_(need) for t, need in zip(gaussian((3, 5), torch.float64), needs, strict=True)]
        assert torch.autograd.gradcheck(lambda m, lv: self.loss(outputs, m, lv), inputs)
        if outputs != "z" or needs[1]:  # z is linear in mu
            assert torch.autograd.gradgradcheck(lambda m, lv: self.loss(outputs, m, lv), inputs)

    def test_only_tensors_that_require_gradients_get_them(self, outputs: str, needs: tuple[bool, bool]) -> None:
        inputs = [t.requires_grad_(need) for t, need in zip(gaussian((3, 5), torch.float32), needs, strict=True)]
        sum(out.sum() for out in self.loss(outputs, *inputs)).backward()
        assert [t.grad is not None for t in inputs] == list(needs)


def test_the_third_derivative() -> None:
    logvar = normal(2, 3, seed=4, dtype=torch.float64).requires_grad_()
    z, kl = gaussian_rsample_kl(torch.zeros_like(logvar), logvar, KEY)
    total = z.sum() + kl.sum()
    for _ in range(3):
        (total,) = (g.sum() for g in torch.autograd.grad(total, logvar, create_graph=True))
    expected = (z / 8 + torch.exp(logvar) / 2).sum()  # z = s * noise: each derivative halves it
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)


def test_a_double_backward_counts_each_path_once() -> None:
    x = normal(3, 4, seed=5, dtype=torch.float64).requires_grad_()

    def through_shared_input(x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x.sin()
        return gaussian_rsample_kl(mu, mu * x, KEY)  # logvar depends on mu

    assert torch.autograd.gradgradcheck(through_shared_input, (x,))


def test_kl_has_its_textbook_gradient() -> None:
    mu, logvar = (t.requires_grad_() for t in gaussian((4, 6), torch.float32))
    _, kl = gaussian_rsample_kl(mu, logvar, KEY)
    kl.sum().backward()
    assert torch.equal(mu.grad, mu.detach())
    torch.testing.assert_close(logvar.grad, torch.expm1(logvar.detach()) / 2, rtol=1e-6, atol=1e-9)


def test_only_the_input_is_saved_for_the_backward() -> None:
    kept: list[Tensor] = []
    mu, logvar = (t.requires_grad_() for t in gaussian((16, 16), torch.float32))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        gaussian_rsample_kl(mu, logvar, KEY)
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in (mu, logvar, KEY)}


@pytest.mark.parametrize("dtype", DTYPES)
class TestBitEquality:
    def run(self, mu: Tensor, logvar: Tensor, first_row: int) -> tuple[Tensor, ...]:
        mu, logvar = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
        z, kl = gaussian_rsample_kl(mu, logvar, noise_key(1, 2, first_row), stream=3)
        return z.detach(), kl.detach(), *torch.autograd.grad((z.sin().sum(), kl.square().sum()), (mu, logvar))

    @pytest.mark.parametrize("columns", [1, 20, 51, 1000])
    def test_results_do_not_depend_on_the_batch_split(self, dtype: torch.dtype, columns: int) -> None:
        mu, logvar = gaussian((37, columns), dtype)
        whole = self.run(mu, logvar, 2**32 - 20)
        starts = ((0, 1), (1, 18), (18, 37))
        parts = [self.run(mu[a:b], logvar[a:b], 2**32 - 20 + a) for a, b in starts]
        for pieces, expected in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(pieces), expected)

    def test_results_do_not_depend_on_the_number_of_threads(self, dtype: torch.dtype) -> None:
        mu, logvar = gaussian((301, 299), dtype)
        with threads(1):
            one = self.run(mu, logvar, 0)
        for count in (2, 5):
            with threads(count):
                assert all(torch.equal(a, b) for a, b in zip(self.run(mu, logvar, 0), one, strict=True))

    def test_one_long_row_on_several_threads(self, dtype: torch.dtype) -> None:
        mu, logvar = gaussian((1, 100_001), dtype)
        with threads(1):
            one = self.run(mu, logvar, 0)
        with threads(4):
            assert all(torch.equal(a, b) for a, b in zip(self.run(mu, logvar, 0), one, strict=True))

    def test_results_are_bit_equal_in_100_runs(self, dtype: torch.dtype) -> None:
        mu, logvar = gaussian((9, 11), dtype)
        first = self.run(mu, logvar, 5)
        for _ in range(100):
            assert all(torch.equal(a, b) for a, b in zip(self.run(mu, logvar, 5), first, strict=True))


def test_strides_do_not_matter() -> None:
    mu, logvar = gaussian((6, 10, 4), torch.float32)
    expected = gaussian_rsample_kl(mu, logvar, KEY)
    transposed = mu.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    sliced = torch.stack((logvar, logvar + 9), dim=-1)[..., 0]
    assert not transposed.is_contiguous()
    assert not sliced.is_contiguous()
    z, kl = gaussian_rsample_kl(transposed, sliced, KEY)
    assert torch.equal(z, expected[0])
    assert torch.equal(kl, expected[1])
    assert z.is_contiguous()
    both = torch.cat((mu.flatten(1), logvar.flatten(1)), dim=1)  # an encoder's single output, split in two
    z, kl = gaussian_rsample_kl(*both.chunk(2, dim=1), KEY)
    assert torch.equal(z.view_as(mu), expected[0])
    assert torch.equal(kl, expected[1])


def test_an_expanded_logvar_and_expanded_gradients() -> None:
    mu = normal(7, 5)
    shared = normal(5, seed=1).requires_grad_()
    z, kl = gaussian_rsample_kl(mu, shared.expand(7, 5), KEY)
    (z.sum() + kl.sum()).backward()  # both gradients arrive with stride 0
    _, _, noise = truth(mu, shared.expand(7, 5))
    lv = shared.detach().double()
    expected = ((noise * torch.exp(lv / 2) + torch.expm1(lv)) / 2).sum(0)
    torch.testing.assert_close(shared.grad.double(), expected, rtol=1e-5, atol=1e-5)


class TestOpcheck:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (0, 4)])
    def test_forward(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        mu, logvar = (t.requires_grad_() for t in gaussian(shape, dtype))
        torch.library.opcheck(OP, (mu, logvar, KEY, 3))

    @pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
    @pytest.mark.parametrize("given", [(True, True), (True, False), (False, True)])
    def test_backward(self, given: tuple[bool, bool], needs: tuple[bool, bool]) -> None:
        mu, logvar = (t.requires_grad_() for t in gaussian((3, 5), torch.float32))
        grads = (normal(3, 5, seed=3).requires_grad_(), normal(3, seed=4).requires_grad_())
        present = [g if there else None for g, there in zip(grads, given, strict=True)]
        torch.library.opcheck(BACKWARD, (*present, mu, logvar, KEY, 3, *needs))

    def test_without_gradients(self) -> None:
        mu, logvar = gaussian((3, 5), torch.float64)
        utils = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(OP, (mu.t(), logvar.t(), KEY, 3), test_utils=utils)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic: bool) -> None:
    def step(mu: Tensor, logvar: Tensor, key: Tensor) -> Tensor:
        z, kl = gaussian_rsample_kl(mu.tanh(), logvar, key, stream=2)
        return z.square().sum() + kl.sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (4, 6) if dynamic else (4,):
        for i in range(2):
            inputs = [t.requires_grad_() for t in gaussian((rows, 6), torch.float32, seed=10 * i)]
            key = noise_key(1, i)
            gradients = torch.autograd.grad(compiled(*inputs, key), inputs)
            expected = torch.autograd.grad(step(*inputs, key), inputs)
            assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


def test_kl_is_float32_under_autocast() -> None:
    encoder = torch.nn.Linear(8, 12)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(normal(*parameter.shape, seed=3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mu, logvar = encoder(normal(5, 8)).chunk(2, dim=1)
        z, kl = gaussian_rsample_kl(mu, logvar, KEY)
        assert z.dtype == torch.bfloat16
        assert kl.dtype == torch.float32
    assert torch.equal(kl, gaussian_rsample_kl(mu.float(), logvar.float(), KEY)[1])
    (z.float().sum() + kl.sum()).backward()
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.dtype == torch.float32
    assert encoder.weight.grad.isfinite().all()


def test_inference_mode_and_no_grad() -> None:
    mu, logvar = (t.requires_grad_() for t in gaussian((3, 5), torch.float32))
    expected = gaussian_rsample_kl(mu, logvar, KEY)[0].detach()
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode:
            z, _ = gaussian_rsample_kl(mu, logvar, KEY)
        assert not z.requires_grad
        assert torch.equal(z, expected)


def test_a_meta_tensor_gives_shapes_only() -> None:
    mu = torch.empty(3, 5, dtype=torch.bfloat16, device="meta")
    z, kl = gaussian_rsample_kl(mu, mu, noise_key(1, device="meta"))
    assert (z.shape, z.dtype, kl.shape, kl.dtype) == ((3, 5), torch.bfloat16, (3,), torch.float32)


X = torch.zeros(32, 64)
WRONG = {
    "no tensor": ((1.0, X, KEY), TypeError, "mu must be a Tensor, got float"),
    "no tensor of logvar": ((X, None, KEY), TypeError, "logvar must be a Tensor, got NoneType"),
    "integers": (
        (X.long(), X.long(), KEY),
        TypeError,
        "mu must be float32, bfloat16, float16 or float64, got torch.int64; convert it with .float()",
    ),
    "no batch": (
        (X[0, 0], X[0, 0], KEY),
        ValueError,
        "mu must have shape [B, ...], got []; add the dimension with mu.unsqueeze(0)",
    ),
    "shape": ((X, torch.zeros(32, 65), KEY), ValueError, "logvar must have mu's shape [32, 64], got [32, 65]"),
    "dtype": (
        (X, X.double(), KEY),
        TypeError,
        "logvar must have mu's dtype torch.float32, got torch.float64; convert one",
    ),
    "device": ((X, X.to("meta"), KEY), ValueError, "logvar must be on mu's device cpu, got meta; move one"),
    "key dtype": (
        (X, X, KEY.int()),
        TypeError,
        "key must be int64, got torch.int32; make it with fastvae.noise_key",
    ),
    "key length": (
        (X, X, KEY[:2]),
        ValueError,
        "key must have shape [3] (seed, step, first_row), got [2]; make it with fastvae.noise_key",
    ),
    "key device": (
        (X, X, KEY.to("meta")),
        ValueError,
        "key must be on mu's device cpu, got meta; move it with key.to('cpu')",
    ),
    "columns": (
        (X[:1, :1].expand(1, 2**34 + 1), X[:1, :1].expand(1, 2**34 + 1), KEY),
        ValueError,
        "an example must have at most 2**34 columns of noise, got 17179869185; split it over streams",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_input_is_refused(case: str) -> None:
    arguments, error, message = WRONG[case]
    with pytest.raises(error) as caught:
        gaussian_rsample_kl(*arguments)
    assert str(caught.value) == f"gaussian_rsample_kl: {message}"


@pytest.mark.parametrize("stream", [-1, 2**32])
def test_a_stream_out_of_range_is_refused(stream: int) -> None:
    with pytest.raises(ValueError, match=r"^gaussian_rsample_kl: stream must be at least 0 and below 2\*\*32, got "):
        gaussian_rsample_kl(X, X, KEY, stream=stream)
