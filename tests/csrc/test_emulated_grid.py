"""The CUDA kernels' bodies on the host, with an emulated grid (fibers for threads): indexing, tails, shuffles, sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastvae import ops
from tests.csrc.grid import DTYPES, alignments, assert_near, call, draw, key_of, needs_compiler

SHAPES = [(1, 1), (3, 5), (70, 20), (4, 33), (3, 128), (9, 136), (2, 4096 + 8), (1, 9001)]
STREAM = 7

pytestmark = needs_compiler


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (33, 20), (2, 1001)])
def test_noise_equals_the_operators(rows: int, columns: int, blocks: int) -> None:
    key = key_of(2**32 - 3)  # rows cross the counter's word
    integers = torch.full((rows, columns), -1, dtype=torch.int64)
    uniforms, normals = torch.full((2, rows, columns), torch.nan).unbind()
    for aligned in alignments(uniforms):
        for kind, out in enumerate((integers, uniforms, normals)):
            call("philox", blocks, 256, aligned, kind, key, STREAM, rows, columns, out.fill_(-1))
    assert torch.equal(integers, ops.philox_integers(key, rows, columns, stream=STREAM))
    assert torch.equal(uniforms, ops.philox_uniform(key, rows, columns, stream=STREAM))
    torch.testing.assert_close(normals, ops.philox_normal(key, rows, columns, stream=STREAM), rtol=0, atol=2e-5)


def run_forward(mu: Tensor, logvar: Tensor, blocks: int, aligned: bool) -> tuple[Tensor, Tensor]:
    rows, columns = mu.shape
    z = torch.full_like(mu, torch.nan)
    kl = torch.full((rows,), torch.nan, dtype=torch.float64 if mu.dtype == torch.float64 else torch.float32)
    dtype = DTYPES.index(mu.dtype)
    call("gaussian_rsample_kl", blocks, 256, dtype, aligned, key_of(), STREAM, rows, columns, mu, logvar, z, kl)
    return z, kl


def run_backward(
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    mu: Tensor,
    logvar: Tensor,
    blocks: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    rows, columns = mu.shape
    grad_mu, grad_logvar = torch.full_like(mu, torch.nan), torch.full_like(mu, torch.nan)
    head = (blocks, 256, DTYPES.index(mu.dtype), aligned, key_of(), STREAM, rows, columns)
    call("gaussian_rsample_kl_backward", *head, grad_z, grad_kl, mu, logvar, grad_mu, grad_logvar)
    return grad_mu, grad_logvar


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_forward_and_backward_equal_the_operators(rows: int, columns: int, dtype: torch.dtype) -> None:
    mu, logvar, grad_z = draw(3, rows, columns, dtype=dtype)
    key = key_of()
    leaves = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
    z, kl = ops.gaussian_rsample_kl(*leaves, key, stream=STREAM)
    grad_kl = torch.linspace(-1, 1, rows, dtype=kl.dtype)
    expected = torch.autograd.grad((z, kl), leaves, (grad_z, grad_kl))
    for aligned in alignments(mu):
        forward = run_forward(mu, logvar, 2, aligned)
        assert_near(forward[0], z, dtype)
        torch.testing.assert_close(forward[1], kl.detach(), rtol=1e-6, atol=1e-6)
        for found, wanted in zip(run_backward(grad_z, grad_kl, mu, logvar, 2, aligned), expected, strict=True):
            assert_near(found, wanted, dtype)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_results_do_not_depend_on_the_grid(rows: int, columns: int) -> None:
    mu, logvar, grad_z = draw(3, rows, columns)
    grad_kl = torch.linspace(-1, 1, rows)
    small, large = (
        (*run_forward(mu, logvar, blocks, False), *run_backward(grad_z, grad_kl, mu, logvar, blocks, False))
        for blocks in (1, 5)
    )
    assert all(map(torch.equal, small, large))


def test_absent_gradients_contribute_nothing() -> None:
    mu, logvar, grad_z = draw(3, 3, 20)
    mu[0, 0] = torch.inf  # would make NaN of a zero gradient
    grad_mu, _ = run_backward(grad_z, None, mu, logvar, 1, True)
    assert torch.equal(grad_mu, grad_z)
    grad_mu, grad_logvar = run_backward(None, torch.ones(3), mu, logvar, 1, True)
    assert torch.equal(grad_mu, mu)
    torch.testing.assert_close(grad_logvar, torch.expm1(logvar) / 2, rtol=1e-6, atol=1e-6)
