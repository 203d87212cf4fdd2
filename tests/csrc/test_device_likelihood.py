"""The CUDA likelihoods on the emulated grid: the documented errors of approximate instructions, bytes, masks, sums."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastvae import ops
from tests.csrc.grid import DTYPES, STORAGES, alignments, assert_near, call, draw, needs_compiler

BERNOULLI, GAUSSIAN = 0, 1
NONE, SCALAR, DIMENSION, FULL = range(4)  # how a parameter is shared

pytestmark = needs_compiler


def likelihood(
    which: int,
    output: Tensor,  # [N, D]
    target: Tensor,  # [B, D]
    *,
    parameter: Tensor | None = None,
    spread: int = NONE,
    mask: Tensor | None = None,
    aligned: bool = False,
    blocks: int = 2,
) -> Tensor:
    (rows, columns), data_rows = output.shape, len(target)
    nll = torch.full((rows,), torch.nan, dtype=torch.float64 if output.dtype == torch.float64 else torch.float32)
    head = (blocks, DTYPES.index(output.dtype), aligned, which, rows, data_rows, columns, output)
    code = STORAGES.index(target.dtype) if which == BERNOULLI or target.dtype != torch.uint8 else 4
    stored = DTYPES.index(output.dtype if parameter is None else parameter.dtype)
    beside = (code, target, mask, spread, stored, parameter, 0)
    call("likelihood", *head, *beside, nll, None, None, None)
    return nll


def gradients(
    which: int,
    grad_nll: Tensor,
    output: Tensor,
    target: Tensor,
    *,
    parameter: Tensor | None = None,
    spread: int = NONE,
    mask: Tensor | None = None,
    aligned: bool = False,
    blocks: int = 2,
) -> list[Tensor]:
    rows, columns = output.shape
    found = [torch.full_like(x, torch.nan) for x in (output, parameter) if x is not None]
    head = (blocks, DTYPES.index(output.dtype), aligned, which, rows, len(target), columns, output)
    code = STORAGES.index(target.dtype) if which == BERNOULLI or target.dtype != torch.uint8 else 4
    stored = DTYPES.index(output.dtype if parameter is None else parameter.dtype)
    beside = (code, target, mask, spread, stored, parameter, 0)
    call("likelihood", *head, *beside, None, grad_nll, *found, *[None] * (2 - len(found)))
    return found


def test_scaled_bytes_equal_an_exact_division() -> None:
    in_float, in_double = torch.full((2, 256), torch.nan), torch.full((2, 256), torch.nan, dtype=torch.float64)
    call("byte_values", in_float, in_double)
    for found in (in_float, in_double):
        bytes_ = torch.arange(256).to(found.dtype)
        assert torch.equal(found[0], bytes_ / 255)
        assert torch.equal(found[1], bytes_)


def test_the_exponential_of_a_logit(error: float) -> None:
    x = torch.cat([torch.linspace(-87, 87, 200_001), 10.0 ** torch.linspace(-30, 0, 1001), torch.zeros(1)])
    found = torch.full((2, len(x)), torch.nan)
    call("exp_minus_absolute", len(x), x, found)
    relative = (found.double() / torch.exp(-x.double().abs()) - 1).abs()
    assert float(relative[0][x.abs() <= 25].max()) <= 7e-7
    assert float(relative[0].max()) <= 1.5e-6
    assert float(relative[1].max()) <= 1e-5  # 16-bit logits: their rounding changes it by |x| 2^-9
    ends = torch.tensor([math.inf, -math.inf, 1000.0, math.nan])
    found = torch.full((2, 4), torch.nan)
    call("exp_minus_absolute", 4, ends, found)
    for row in found:
        assert row[:3].tolist() == [0, 0, 0]
        assert row[3].isnan()


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0, 20.0])
def test_the_nll_of_confident_correct_pixels_is_accurate(scale: float, error: float) -> None:
    logits = scale * (1 + draw(4, 784).abs())
    exact = torch.log1p(torch.exp(-logits.double())).sum(1)
    for sign, target in ((1, torch.ones(4, 784)), (-1, torch.zeros(4, 784))):
        for aligned in (False, True):
            nll = likelihood(BERNOULLI, sign * logits, target, aligned=aligned).double()
            assert float(((nll - exact) / exact).abs().max()) < 1.2e-6


@pytest.mark.parametrize("storage", [torch.float32, torch.bool, torch.uint8], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_bernoulli_is_within_its_error_bounds(dtype: torch.dtype, storage: torch.dtype, error: float) -> None:
    logits = (4 * draw(6, 784)).to(dtype)
    brightness = torch.rand(6, 784, generator=torch.Generator().manual_seed(1))
    target = (255 * brightness).to(storage) if storage == torch.uint8 else brightness.round().to(storage)
    exact_target = target.double() / (255 if storage == torch.uint8 else 1)
    exact = torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), exact_target, reduction="none").sum(1)
    grad_nll = torch.linspace(-1, 1, 6)
    by_logit = (torch.sigmoid(logits.double()) - exact_target) * grad_nll.double()[:, None]
    for aligned in (False, True):
        nll = likelihood(BERNOULLI, logits, target, aligned=aligned)
        torch.testing.assert_close(nll.double(), exact, rtol=1e-6, atol=0)
        (found,) = gradients(BERNOULLI, grad_nll, logits, target, aligned=aligned)
        rounding = {torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[dtype]
        torch.testing.assert_close(found.double(), by_logit, rtol=rounding, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_gaussian_with_16_bit_means_is_within_its_error_bounds(dtype: torch.dtype, error: float) -> None:
    mean, logvar, target = (4 * draw(3, 6, 136)).to(dtype)
    terms = ((target.double() - mean.double()) ** 2 * torch.exp(-logvar.double()) + logvar.double()) / 2
    exact = (terms + math.log(2 * math.pi) / 2).sum(1)
    nll = likelihood(GAUSSIAN, mean, target, parameter=logvar, spread=FULL, aligned=True)
    torch.testing.assert_close(nll.double(), exact, rtol=2e-6, atol=0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("storage", [torch.float32, torch.uint8], ids=str)
def test_infinities_and_nan_equal_those_of_the_operator(storage: torch.dtype, masked: bool) -> None:
    inf, nan = math.inf, math.nan
    logits = draw(9, 16)
    logits[:8, 5] = torch.tensor([inf, -inf, nan, 1e38, -1e38, 89.0, -200.0, 0.0])
    for bit in (0, 1):
        target = torch.full((9, 16), bit * (255 if storage == torch.uint8 else 1)).to(storage)
        mask = torch.ones(9, 16, dtype=torch.bool)
        mask[:, 5] = not masked  # then special values are masked
        leaf = logits.clone().requires_grad_()
        nll = ops.bernoulli_nll(leaf, target, mask=mask)
        (gradient,) = torch.autograd.grad(nll.sum(), leaf)
        for aligned in (False, True):
            found = likelihood(BERNOULLI, logits, target, mask=mask, aligned=aligned)
            torch.testing.assert_close(found, nll.detach(), rtol=2e-6, atol=2e-6, equal_nan=True)
            (by_logit,) = gradients(BERNOULLI, torch.ones(9), logits, target, mask=mask, aligned=aligned)
            torch.testing.assert_close(by_logit, gradient, rtol=2e-6, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (33, 20), (5, 136), (2, 9001)])
def test_results_do_not_depend_on_the_grid(rows: int, columns: int) -> None:
    mean, logvar, target = draw(3, rows, columns)
    grad_nll = torch.linspace(-1, 1, rows)
    mask = torch.arange(rows * columns).reshape(rows, columns) % 3 != 1
    given = {"parameter": logvar, "spread": FULL, "mask": mask}
    results = [
        [
            likelihood(BERNOULLI, mean, target > 0, mask=mask, blocks=blocks),
            likelihood(GAUSSIAN, mean, target, blocks=blocks, **given),  # type: ignore[arg-type]
            *gradients(GAUSSIAN, grad_nll, mean, target, blocks=blocks, **given),  # type: ignore[arg-type]
        ]
        for blocks in (1, 5)
    ]
    assert all(map(torch.equal, *results))


def test_a_row_with_more_segments_than_lanes_of_a_warp() -> None:
    logits, target = draw(1, 40 * 4096 + 3), torch.zeros(1, 40 * 4096 + 3, dtype=torch.bool)
    exact = torch.nn.functional.softplus(logits.double()).sum(1)
    torch.testing.assert_close(likelihood(BERNOULLI, logits, target, blocks=4).double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("spread", [SCALAR, DIMENSION])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (17, 5), (128, 20), (1100, 3), (16 * 64 * 2 + 1, 8)])
def test_a_shared_parameter_is_summed_over_any_number_of_rows(rows: int, columns: int, spread: int) -> None:
    mean, target = draw(2, rows, columns)
    logvar = draw(1 if spread == SCALAR else columns)
    grad_nll = torch.linspace(-1, 2, rows)
    by_element = 0.5 * (1 - (target - mean).double() ** 2 * torch.exp(-logvar.double())) * grad_nll.double()[:, None]
    exact = by_element.sum().reshape(1) if spread == SCALAR else by_element.sum(0)
    several = []
    for blocks, aligned in ((1, False), (3, False), *((2, a) for a in alignments(mean) if a)):
        given = {"parameter": logvar, "spread": spread, "aligned": aligned, "blocks": blocks}
        _, found = gradients(GAUSSIAN, grad_nll, mean, target, **given)  # type: ignore[arg-type]
        scale = float(by_element.abs().sum()) + 1
        assert_near(found.double() / scale, exact / scale, torch.float32)
        several.append(found)
    assert torch.equal(several[0], several[1])


@pytest.mark.parametrize("spread", [SCALAR, DIMENSION, FULL])
def test_a_float32_parameter_with_16_bit_means(spread: int) -> None:
    mean, target = draw(2, 5, 24, dtype=torch.bfloat16)
    logvar = draw(5, 24) if spread == FULL else draw(1 if spread == SCALAR else 24)
    grad_nll = torch.linspace(-1, 1, 5)
    error = (target.double() - mean.double()) ** 2 * torch.exp(-logvar.double())
    exact = ((error + logvar.double() + math.log(2 * math.pi)) / 2).sum(1)
    by_element = 0.5 * (1 - error) * grad_nll.double()[:, None]
    wanted = {SCALAR: by_element.sum().reshape(1), DIMENSION: by_element.sum(0), FULL: by_element}[spread]
    for aligned in (False, True):
        nll = likelihood(GAUSSIAN, mean, target, parameter=logvar, spread=spread, aligned=aligned)
        torch.testing.assert_close(nll.double(), exact, rtol=2e-6, atol=0)
        _, found = gradients(GAUSSIAN, grad_nll, mean, target, parameter=logvar, spread=spread, aligned=aligned)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
