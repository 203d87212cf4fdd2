"""Every operator on the GPU compared with the CPU: integers bit for bit, floats within the tolerance of their dtype.

``FASTVAE_TEST_DEVICE=cpu`` runs the same tests on the CPU, which checks the tests themselves without a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastvae import ops
from fastvae.ops import reference

DEVICE = os.environ.get("FASTVAE_TEST_DEVICE", "cuda")
pytestmark = [] if DEVICE == "cpu" else [pytest.mark.gpu]

KEY = ops.noise_key(7, step=3, first_row=5)
SHAPES = [(1, 1), (3, 5), (7, 64), (5, 4, 6), (33, 129), (300, 20), (2, 4099)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# Errors relative to the float64 reference on the same (rounded) inputs: results of a half type are rounded once.
RELATIVE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-10}
Function = Callable[..., tuple[Tensor, ...]]


def normal(shape: tuple[int, ...], dtype: torch.dtype, seed: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype, *, noise: bool = False) -> None:
    """Compare within the dtype's tolerance; noise on CUDA may have an absolute error of 5e-5."""
    rtol = RELATIVE[dtype]
    atol = max(rtol * float(expected.abs().max()) if expected.numel() else 0.0, 5e-4 if noise else 0.0)
    torch.testing.assert_close(found.cpu().double(), expected.double(), rtol=rtol, atol=atol)


def check(ours: Function, plain: Function, inputs: list[Tensor], dtype: torch.dtype, *, noise: bool = True) -> None:
    """Compare values and gradients of ``ours`` on the device with ``plain`` in float64 on the CPU."""
    there = [x.to(DEVICE).requires_grad_() for x in inputs]
    here = [x.double().requires_grad_() for x in inputs]
    found, expected = ours(*there), plain(*here)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        close(mine.detach(), theirs.detach(), dtype, noise=noise)
    weights = [torch.linspace(0.5, 1.5, max(1, out.numel()))[: out.numel()].view(out.shape) for out in expected]
    mine_grads = torch.autograd.grad(
        found, there, [w.to(m.device, m.dtype) for w, m in zip(weights, found, strict=True)]
    )
    rounded = [w.to(m.dtype).double() for w, m in zip(weights, found, strict=True)]
    for mine, theirs in zip(mine_grads, torch.autograd.grad(expected, here, rounded), strict=True):
        assert mine.dtype == dtype
        close(mine, theirs, dtype, noise=noise)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (33, 129), (1000, 20), (2, 4099)])
@pytest.mark.parametrize("first_row", [0, 5, 2**32 - 2])
def test_words_and_uniforms_are_those_of_the_cpu(shape: tuple[int, int], first_row: int) -> None:
    key = ops.noise_key(2**32 - 1, step=9, first_row=first_row)
    there = key.to(DEVICE)
    stream = ops.stream(ops.Use.PIXELS, site=3, evaluation=True)
    assert torch.equal(
        ops.philox_integers(there, *shape, stream=stream).cpu(), ops.philox_integers(key, *shape, stream=stream)
    )
    assert torch.equal(
        ops.philox_uniform(there, *shape, stream=stream).cpu(), ops.philox_uniform(key, *shape, stream=stream)
    )


def test_normals_are_exact_to_five_digits() -> None:
    exact = reference.philox_normal(KEY, 500, 333, 0, torch.float64)
    found = ops.philox_normal(KEY.to(DEVICE), 500, 333)
    assert float((found.cpu().double() - exact).abs().max()) <= 5e-5
    into = torch.empty(500, 333, device=DEVICE)
    ops.philox_normal(KEY.to(DEVICE), 500, 333, out=into)
    assert torch.equal(into, found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gaussian_rsample_kl(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [normal(shape, dtype, 1), normal(shape, dtype, 2)]
    check(
        lambda mu, lv: ops.gaussian_rsample_kl(mu, lv, KEY.to(DEVICE)),
        lambda mu, lv: reference.gaussian_rsample_kl(mu, lv, KEY, 0),
        inputs,
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "example", "dimension", "both"])
def test_gaussian_rsample_kl_with_a_prior(reduction: str, dtype: torch.dtype) -> None:
    number = {"none": 0, "example": 1, "dimension": 2, "both": 3}[reduction]

    def plain(mu: Tensor, lv: Tensor, pm: Tensor, plv: Tensor) -> tuple[Tensor, ...]:
        z, kl, per_dimension = reference.gaussian_rsample_kl_full(mu, lv, pm, plv, KEY, 0, number)
        return {2: (z, per_dimension), 3: (z, kl, per_dimension)}.get(number, (z, kl))

    for shape in ((3, 5), (700, 37)):
        inputs = [normal(shape, dtype, seed, 0.7) for seed in range(4)]
        key = KEY.to(DEVICE)
        check(
            lambda *x, key=key: ops.gaussian_rsample_kl(x[0], x[1], key, *x[2:], reduction=reduction),
            plain,
            inputs,
            dtype,
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (33, 129)], ids=str)
def test_gaussian_rsample_log_ratio(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [normal(shape, dtype, 1), normal(shape, dtype, 2, 0.7)]
    check(
        lambda mu, lv: ops.gaussian_rsample_log_ratio(mu, lv, KEY.to(DEVICE), 6, first_sample=2),
        lambda mu, lv: reference.gaussian_rsample_log_ratio(mu, lv, KEY, 6, 0, 2),
        inputs,
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_samples", [None, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_likelihoods(dtype: torch.dtype, num_samples: int | None, masked: bool) -> None:
    for data_shape in ((1, 1), (3, 5), (9, 7, 11), (5, 2051)):
        shape = data_shape if num_samples is None else (num_samples, *data_shape)
        target = normal(data_shape, torch.float32, 3).sigmoid().to(dtype)
        levels = (target.double() * 255).round().to(torch.uint8)
        mask = (normal(data_shape, torch.float32, 4) > -0.5) if masked else None
        there = None if mask is None else mask.to(DEVICE)
        t, u = target.to(DEVICE), levels.to(DEVICE)
        output = normal(shape, dtype, 1)
        for spread in (normal((), dtype, 2), normal(data_shape[1:], dtype, 2, 0.5), normal(shape, dtype, 2, 0.5)):
            check(
                lambda m, lv, t=t, there=there: (ops.gaussian_nll(m, t, lv, there),),
                lambda m, lv, target=target, mask=mask: (reference.gaussian_nll(m, target.double(), lv, mask),),
                [output, spread],
                dtype,
                noise=False,
            )
            check(
                lambda m, s, u=u, there=there: (ops.discretized_logistic_nll(m, s, u, there),),
                lambda m, s, x=levels, mask=mask: (reference.discretized_logistic_nll(m, s, x, mask, 256),),
                [output, spread],
                dtype,
                noise=False,
            )
        for mine, theirs in ((t, target.double()), (u, levels)):
            check(
                lambda x, mine=mine, there=there: (ops.bernoulli_nll(x, mine, there),),
                lambda x, theirs=theirs, mask=mask: (reference.bernoulli_nll(x, theirs, mask),),
                [output],
                dtype,
                noise=False,
            )


def test_bernoulli_nll_and_gradient_is_the_two_operators() -> None:
    logits, target = normal((5, 50), torch.float32, 1).to(DEVICE), torch.rand(5, 50, device=DEVICE)
    nll, gradient = torch.ops.fastvae.bernoulli_nll_and_gradient(logits, target)
    assert torch.equal(nll, ops.bernoulli_nll(logits, target))
    ones = torch.ones(5, device=DEVICE)
    assert torch.equal(gradient, torch.ops.fastvae.bernoulli_nll_backward(ones, logits, target, None))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (17, 5003), (4, 3, 50)], ids=str)
def test_multinomial_nll(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    counts = (normal(shape[-2:], torch.float32, 2).abs() * 2).floor()
    for given in (counts.to(DEVICE), counts.to_sparse_csr().to(DEVICE)):
        check(
            lambda x, given=given: (ops.multinomial_nll(x, given),),
            lambda x: reference.multinomial_nll(x, counts.double())[:1],
            [normal(shape, dtype, 1)],
            dtype,
            noise=False,
        )


def test_strided_and_empty_inputs() -> None:
    wide = normal((12, 40), torch.float32, 1)
    key = KEY.to(DEVICE)
    mu, logvar = wide.to(DEVICE).t()[::2], wide.to(DEVICE).t()[1::2]
    z, kl = ops.gaussian_rsample_kl(mu, logvar, key)
    dense = ops.gaussian_rsample_kl(mu.contiguous(), logvar.contiguous(), key)
    assert torch.equal(z, dense[0])
    assert torch.equal(kl, dense[1])
    for shape in ((0, 5), (4, 0)):
        empty = torch.empty(shape, device=DEVICE, requires_grad=True)
        z, kl = ops.gaussian_rsample_kl(empty, empty, key)
        (z.sum() + kl.sum()).backward()
        assert z.shape == shape
        assert torch.equal(kl.detach(), torch.zeros(shape[0], device=DEVICE))
        nll = ops.bernoulli_nll(empty, torch.empty(shape, device=DEVICE))
        assert torch.equal(nll.detach(), torch.zeros(shape[0], device=DEVICE))


def test_results_are_bit_equal_in_repetitions_and_any_split() -> None:
    mu, logvar = normal((640, 70), torch.float32, 1).to(DEVICE), normal((640, 70), torch.float32, 2).to(DEVICE)
    key, later = ops.noise_key(1, device=DEVICE), ops.noise_key(1, first_row=256, device=DEVICE)
    first = ops.gaussian_rsample_kl(mu, logvar, key, reduction="both")
    for _ in range(100):
        again = ops.gaussian_rsample_kl(mu, logvar, key, reduction="both")
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    whole = ops.gaussian_rsample_kl(mu, logvar, key)
    parts = [
        ops.gaussian_rsample_kl(mu[:256], logvar[:256], key),
        ops.gaussian_rsample_kl(mu[256:], logvar[256:], later),
    ]
    for position in (0, 1):
        assert torch.equal(torch.cat([part[position] for part in parts]), whole[position])


def test_overflow_and_nan_affect_their_row_only() -> None:
    mu, logvar = torch.zeros(4, 33, device=DEVICE), torch.zeros(4, 33, device=DEVICE)
    logvar[1, 3], mu[2, 7] = 200.0, float("nan")
    kl = ops.gaussian_rsample_kl(mu, logvar, KEY.to(DEVICE))[1].cpu()
    assert kl[[0, 3]].tolist() == [0.0, 0.0]
    assert kl[1].item() == float("inf")
    assert kl[2].isnan()


@pytest.mark.gpu
def test_a_captured_key_advances_in_place() -> None:
    mu, logvar = normal((64, 20), torch.float32, 1).cuda(), normal((64, 20), torch.float32, 2).cuda()
    key = ops.noise_key(5, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        ops.gaussian_rsample_kl(mu, logvar, key)
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        z, kl = ops.gaussian_rsample_kl(mu, logvar, key)
        key[1] += 1
    key.copy_(ops.noise_key(5))
    for step in range(3):
        graph.replay()
        expected = ops.gaussian_rsample_kl(mu, logvar, ops.noise_key(5, step=step, device="cuda"))
        assert torch.equal(z, expected[0])
        assert torch.equal(kl, expected[1])


@pytest.mark.gpu
def test_the_current_stream_is_used() -> None:
    mu = torch.zeros(4096, 512, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        mu.fill_(3.0)
        kl = ops.gaussian_rsample_kl(mu, torch.zeros_like(mu), ops.noise_key(0, device="cuda"))[1]
    stream.synchronize()
    assert torch.equal(kl, torch.full_like(kl, 512 * 4.5))


@pytest.mark.gpu
def test_all_operators_are_native_with_cuda_kernels() -> None:
    from fastvae.ops import _native

    if not _native.build_info.get("cuda"):
        pytest.skip("the library was built without CUDA")
    missing = [b.operator for b in ops.backend() if b.device == "cuda" and b.name != "native"]
    assert missing == []
