"""multinomial_nll's CUDA kernels on the emulated grid: logits are read once, for any values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.csrc.grid import DTYPES, STORAGES, alignments, call, draw, needs_compiler

pytestmark = needs_compiler


def run(
    logits: Tensor,  # [N, V]
    counts: Tensor,  # [B, V]
    *,
    aligned: bool = False,
    blocks: int = 2,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return nll, logsumexp, total, and the gradient with respect to the logits for a grad_nll of ones."""
    (rows, columns), data_rows = logits.shape, len(counts)
    nll, logsumexp, total = torch.full((3, rows), torch.nan).unbind()
    gradient = torch.full_like(logits, torch.nan)
    code = 4 if counts.dtype == torch.uint8 else STORAGES.index(counts.dtype)
    head = (blocks, DTYPES.index(logits.dtype), aligned, rows, data_rows, columns, logits, code, counts, None, None, 0)
    call("multinomial", *head, nll, logsumexp, total, None, None)
    call("multinomial", *head, nll, logsumexp, total, torch.ones(rows), gradient)
    return nll, logsumexp, total, gradient


def counts_of(rows: int, columns: int) -> Tensor:
    return (torch.arange(rows * columns).reshape(rows, columns) * 5 % 7 - 3).clamp_min(0).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("storage", [torch.float32, torch.uint8], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 9), (3, 136), (2, 9008)])
def test_multinomial_is_within_its_error_bounds(
    rows: int, columns: int, storage: torch.dtype, dtype: torch.dtype, error: float
) -> None:
    logits, counts = (3 * draw(rows, columns)).to(dtype), counts_of(rows, columns)
    exact = torch.log_softmax(logits.double(), dim=1)
    total = counts.sum(1).double()
    by_logit = exact.exp() * total[:, None] - counts.double()
    for aligned in alignments(logits):
        nll, logsumexp, found_total, gradient = run(logits, counts.to(storage), aligned=aligned)
        torch.testing.assert_close(nll.double(), -(counts.double() * exact).sum(1), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(logsumexp.double(), torch.logsumexp(logits.double(), 1), rtol=1e-6, atol=1e-6)
        assert torch.equal(found_total.double(), total)
        allowed = (5e-6 if dtype == torch.float32 else 1e-2) * (counts.double() + by_logit.abs() + 1)
        assert bool(((gradient.double() - by_logit).abs() <= allowed).all())


@pytest.mark.parametrize("span", [1.0, 110.0, 1000.0])
def test_a_larger_logit_late_in_the_row_rescales_the_sum(span: float, error: float) -> None:
    for columns in (16, 1024, 8200):
        logits, counts = torch.linspace(-span, span, columns).repeat(3, 1), counts_of(3, columns)
        logits[1] = logits[1].flip(0)
        exact = torch.log_softmax(logits.double(), dim=1)
        for aligned in (False, True):
            nll, *_ = run(logits, counts, aligned=aligned)
            torch.testing.assert_close(nll.double(), -(counts.double() * exact).sum(1), rtol=1e-6, atol=0)


def test_large_logits_neither_overflow_nor_cancel() -> None:
    logits, counts = draw(4, 48), counts_of(4, 48)
    expected, *_ = run(logits, counts, aligned=True)
    shifted, *_ = run((logits.double() + 1024).float(), counts, aligned=True)
    torch.testing.assert_close(shifted, expected, rtol=1e-4, atol=0)
    huge = torch.zeros(1, 8)
    huge[0, 3], huge[0, 6] = 3e38, -3e38
    nll, logsumexp, _, gradient = run(huge, torch.eye(8)[3:4], aligned=True)
    assert nll.item() == 0
    assert logsumexp.item() == torch.tensor(3e38).item()
    assert bool((gradient == 0).all())


@pytest.mark.parametrize("aligned", [False, True])
def test_infinite_logits(aligned: bool) -> None:
    inf = math.inf
    logits = torch.zeros(5, 8)
    counts = torch.zeros(5, 8)
    logits[:, 2], counts[:, 1] = -inf, 2.0
    counts[1, 2] = 1.0  # an impossible count
    counts[2] = 0.0  # no counts
    logits[3] = -inf  # all items are impossible
    logits[4, 5] = math.nan
    nll, logsumexp, total, gradient = run(logits, counts, aligned=aligned)
    assert nll[0].item() == pytest.approx(2 * math.log(7), rel=1e-6)
    assert nll[1].item() == inf
    assert nll[2].item() == 0
    assert nll[3].isnan()
    assert nll[4].isnan()
    assert logsumexp[:3].tolist() == pytest.approx([math.log(7)] * 3)
    assert logsumexp[3].item() == -inf
    assert total.tolist() == [2, 3, 0, 2, 2]
    assert bool(gradient[:3].isfinite().all())
    assert bool((gradient[0, 2] == 0) & (gradient[2] == 0).all())


def test_a_positive_infinite_logit_gives_nan() -> None:
    logits = torch.zeros(2, 8)
    logits[:, 4] = math.inf
    counts = torch.zeros(2, 8)
    counts[1, 0] = 1.0
    nll, *_ = run(logits, counts, aligned=True)
    assert bool(nll.isnan().all())


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 20), (5, 136), (2, 9001)])
def test_results_do_not_depend_on_the_grid(rows: int, columns: int) -> None:
    logits, counts = draw(rows, columns), counts_of(rows, columns)
    assert all(map(torch.equal, run(logits, counts, blocks=1), run(logits, counts, blocks=5)))
