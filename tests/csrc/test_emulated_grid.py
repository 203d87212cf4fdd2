"""The CUDA kernels' bodies on the host, with an emulated grid (fibers for threads): indexing, tails, shuffles, sums."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastvae
from fastvae import ops

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SHAPES = [(1, 1), (3, 5), (70, 20), (4, 33), (3, 128), (9, 136), (2, 4096 + 8), (1, 9001)]
STREAM = 7
COMPILER = shutil.which("c++") or shutil.which("g++")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("grid") / "emulated_grid.so"
    source = ROOT / "tests/csrc/emulated_grid.cpp"
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", f"-I{ROOT / 'csrc'}"]
    subprocess.run([str(COMPILER), *flags, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr() if x is not None else None)


def call(function: Callable[..., int], *args: object) -> None:
    converted = [pointer(a) if isinstance(a, Tensor) or a is None else ctypes.c_int64(a) for a in args]  # type: ignore[arg-type]
    assert function(*converted) == 0, "the emulated grid found divergent code around a shuffle"


def key_of(first_row: int = 0) -> Tensor:
    return fastvae.noise_key(42, 3, first_row)


def inputs(rows: int, columns: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 7919 + columns)
    mu, logvar, grad_z = torch.randn(3, rows, columns, generator=generator).to(dtype).unbind()
    return mu, logvar, grad_z


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (33, 20), (2, 1001)])
def test_noise_equals_the_operators(grid: ctypes.CDLL, rows: int, columns: int, blocks: int) -> None:
    key = key_of(2**32 - 3)  # rows cross the counter's word
    integers = torch.full((rows, columns), -1, dtype=torch.int64)
    uniforms, normals = torch.full((2, rows, columns), torch.nan).unbind()
    for kind, out in enumerate((integers, uniforms, normals)):
        call(grid.philox, blocks, 256, kind, key, STREAM, rows, columns, out)
    assert torch.equal(integers, ops.philox_integers(key, rows, columns, stream=STREAM))
    assert torch.equal(uniforms, ops.philox_uniform(key, rows, columns, stream=STREAM))
    torch.testing.assert_close(normals, ops.philox_normal(key, rows, columns, stream=STREAM), rtol=0, atol=1e-5)


def run_forward(grid: ctypes.CDLL, mu: Tensor, logvar: Tensor, blocks: int, aligned: bool) -> tuple[Tensor, Tensor]:
    rows, columns = mu.shape
    z = torch.full_like(mu, torch.nan)
    kl = torch.full((rows,), torch.nan, dtype=torch.float64 if mu.dtype == torch.float64 else torch.float32)
    dtype = DTYPES.index(mu.dtype)
    call(grid.gaussian_rsample_kl, blocks, 256, dtype, aligned, key_of(), STREAM, rows, columns, mu, logvar, z, kl)
    return z, kl


def run_backward(
    grid: ctypes.CDLL,
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
    call(grid.gaussian_rsample_kl_backward, *head, grad_z, grad_kl, mu, logvar, grad_mu, grad_logvar)
    return grad_mu, grad_logvar


def can_be_aligned(mu: Tensor) -> bool:
    return mu.shape[1] % (8 if mu.element_size() == 2 else 4) == 0 and mu.data_ptr() % 16 == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_forward_and_backward_equal_the_operators(
    grid: ctypes.CDLL, rows: int, columns: int, dtype: torch.dtype
) -> None:
    mu, logvar, grad_z = inputs(rows, columns, dtype)
    key, tolerance = key_of(), {"rtol": TOLERANCE[dtype], "atol": 4 * TOLERANCE[dtype]}
    leaves = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
    z, kl = ops.gaussian_rsample_kl(*leaves, key, stream=STREAM)
    grad_kl = torch.linspace(-1, 1, rows, dtype=kl.dtype)
    expected = torch.autograd.grad((z, kl), leaves, (grad_z, grad_kl))
    for aligned in {False, can_be_aligned(mu)}:
        forward = run_forward(grid, mu, logvar, 2, aligned)
        torch.testing.assert_close(forward[0], z.detach(), **tolerance)
        torch.testing.assert_close(forward[1], kl.detach(), rtol=1e-6, atol=1e-6)
        for found, wanted in zip(run_backward(grid, grad_z, grad_kl, mu, logvar, 2, aligned), expected, strict=True):
            torch.testing.assert_close(found, wanted, **tolerance)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_no_bit_depends_on_the_grid(grid: ctypes.CDLL, rows: int, columns: int) -> None:
    mu, logvar, grad_z = inputs(rows, columns, torch.float32)
    grad_kl = torch.linspace(-1, 1, rows)
    small, large = (
        (*run_forward(grid, mu, logvar, blocks, False), *run_backward(grid, grad_z, grad_kl, mu, logvar, blocks, False))
        for blocks in (1, 5)
    )
    assert all(map(torch.equal, small, large))


def test_absent_gradients_add_nothing(grid: ctypes.CDLL) -> None:
    mu, logvar, grad_z = inputs(3, 20, torch.float32)
    mu[0, 0] = torch.inf  # would make NaN of a zero gradient
    grad_mu, _ = run_backward(grid, grad_z, None, mu, logvar, 1, True)
    assert torch.equal(grad_mu, grad_z)
    grad_mu, grad_logvar = run_backward(grid, None, torch.ones(3), mu, logvar, 1, True)
    assert torch.equal(grad_mu, mu)
    torch.testing.assert_close(grad_logvar, torch.expm1(logvar) / 2, rtol=1e-6, atol=1e-6)
