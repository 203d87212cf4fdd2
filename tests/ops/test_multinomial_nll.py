from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from fastvae.ops import multinomial_nll
from tests.ops.cases import DTYPES, assert_close, native_on_cpu, normal, threads
from tests.ops.likelihood_properties import Case, LikelihoodProperties, bits, equal


def counts_of(batch: int, items: int, seed: int = 1) -> Tensor:
    """Return small integers, most of them 0."""
    return (normal(batch, items, seed=seed) * 2).clamp(min=0).floor()


def compressed(dense: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls sparse CSR a beta state
        return dense.to_sparse_csr()


class TestDense(LikelihoodProperties):
    operator = "multinomial_nll"
    has_mask = False

    def case(
        self,
        batch: int = 5,
        event: tuple[int, ...] = (7,),
        dtype: torch.dtype = torch.float32,
        samples: int | None = None,
    ) -> Case:
        items = math.prod(event)
        logits = 3 * normal(*self.output_shape(batch, (items,), samples), dtype=dtype)
        return Case(
            nll=lambda logits, counts, mask: multinomial_nll(logits, counts),
            parameters=(logits,),
            target=counts_of(batch, items),
        )

    def names(self) -> tuple[str, str]:
        return "logits", "counts"


@pytest.mark.parametrize("sparse", [False, True])
class TestBoth:
    def counts(self, dense: Tensor, sparse: bool) -> Tensor:
        return compressed(dense) if sparse else dense

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 7), (33, 67), (3, 1025), (2, 20_000)])
    def test_against_log_softmax(self, shape: tuple[int, int], dtype: torch.dtype, sparse: bool) -> None:
        logits, counts = (3 * normal(*shape, dtype=dtype)).requires_grad_(), counts_of(*shape)
        nll = multinomial_nll(logits, self.counts(counts, sparse))
        true_logits = logits.detach().double().requires_grad_()
        truth = -(counts.double() * torch.log_softmax(true_logits, dim=1)).sum(1)
        assert_close(nll, truth.detach(), nll.dtype)
        weights = normal(shape[0], seed=2, dtype=nll.dtype)
        (gradient,) = torch.autograd.grad(nll, logits, weights)
        (true_gradient,) = torch.autograd.grad(truth, true_logits, weights.double())
        if dtype in (torch.float32, torch.float64):  # total * softmax - count cancels: an absolute error
            relative = 5e-6 if dtype == torch.float32 else 1e-13
            allowed = relative * weights.double().abs().unsqueeze(1) * (counts.double() + true_gradient.abs() + 1)
            assert ((gradient.double() - true_gradient).abs() <= allowed).all()
        else:
            assert_close(gradient, true_gradient, dtype)

    def test_first_and_second_derivatives(self, sparse: bool) -> None:
        counts = self.counts(counts_of(3, 6).double(), sparse)
        for shape in ((3, 6), (2, 3, 6)):
            logits = normal(*shape, dtype=torch.float64).requires_grad_()
            assert torch.autograd.gradcheck(lambda lg: multinomial_nll(lg, counts), logits)
            assert torch.autograd.gradgradcheck(lambda lg: multinomial_nll(lg, counts), logits)

    def test_a_count_of_0_ignores_its_logit(self, sparse: bool) -> None:
        counts = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
        logits = torch.tensor([[0.5, -math.inf, 1.0], [0.0, -math.inf, 0.0]], requires_grad=True)
        nll = multinomial_nll(logits, self.counts(counts, sparse))
        expected = -(torch.log_softmax(torch.tensor([0.5, 1.0]), dim=0) * torch.tensor([1.0, 2.0])).sum()
        assert nll[0].item() == pytest.approx(expected.item(), rel=1e-6)
        assert nll[1].item() == 0
        nll.sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        assert (logits.grad[:, 1] == 0).all()

    def test_an_impossible_count_is_infinite(self, sparse: bool) -> None:
        counts = torch.tensor([[1.0, 2.0]])
        logits = torch.tensor([[0.0, -math.inf]])
        assert multinomial_nll(logits, self.counts(counts, sparse)).item() == math.inf

    def test_large_logits_do_not_overflow(self, sparse: bool) -> None:
        logits, counts = normal(4, 50), counts_of(4, 50)
        shifted = multinomial_nll(logits + 1024, self.counts(counts, sparse))
        torch.testing.assert_close(shifted, multinomial_nll(logits, counts), rtol=1e-4, atol=0)

    def test_integer_counts(self, sparse: bool) -> None:
        logits, counts = normal(4, 9), counts_of(4, 9)
        expected = multinomial_nll(logits, counts)
        for dtype in (torch.int64, torch.int32, torch.uint8, torch.float64):
            nll = multinomial_nll(logits, self.counts(counts.to(dtype), sparse))
            torch.testing.assert_close(nll, expected, rtol=1e-6, atol=0)

    def test_bits_do_not_depend_on_the_batch_split_or_threads(self, sparse: bool) -> None:
        logits, counts = normal(37, 501), counts_of(37, 501)

        def run(rows: slice) -> tuple[Tensor, ...]:
            some = self.counts(counts[rows], sparse)
            return bits(Case(nll=lambda lg, c, _: multinomial_nll(lg, c), parameters=(logits[rows],), target=some))

        whole = run(slice(None))
        parts = [run(slice(a, b)) for a, b in ((0, 1), (1, 18), (18, 37))]
        assert equal(tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True)), whole)
        with threads(3):
            assert equal(run(slice(None)), whole)


@pytest.mark.parametrize("index", [torch.int64, torch.int32])
def test_compressed_rows_and_dense_agree(index: torch.dtype) -> None:
    logits, counts = normal(3, 5, 40).requires_grad_(), counts_of(5, 40)
    counts[2] = 0  # a row without a count
    rows = compressed(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = torch.sparse_csr_tensor(
            rows.crow_indices().to(index), rows.col_indices().to(index), rows.values(), rows.shape
        )
    values = [multinomial_nll(logits, c) for c in (counts, rows)]
    torch.testing.assert_close(*values, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(v.square().sum(), logits)[0] for v in values]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_opcheck_of_compressed_rows() -> None:
    logits, rows = normal(5, 9).requires_grad_(), compressed(counts_of(5, 9))
    parts = tuple(t.clone() for t in (rows.crow_indices(), rows.col_indices(), rows.values()))
    forward, backward = (getattr(torch.ops.fastvae, f"multinomial_nll_csr{s}").default for s in ("", "_backward"))
    torch.library.opcheck(forward, (logits, *parts))
    _, logsumexp, total = forward(logits.detach(), *parts)
    torch.library.opcheck(backward, (normal(5, seed=3).requires_grad_(), logits, *parts, logsumexp, total))


def test_no_tensor_as_large_as_the_logits_is_saved() -> None:
    kept: list[Tensor] = []
    logits, counts = normal(5, 9).requires_grad_(), counts_of(5, 9)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        multinomial_nll(logits, counts)
    assert sorted(t.numel() for t in kept) == [5, 5, 45, 45]
    assert {t.data_ptr() for t in kept} >= {logits.data_ptr(), counts.data_ptr()}


def test_invalid_counts_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^multinomial_nll: counts must have shape \[B, V\], V at least 1, got \[5\]$"
    ):
        multinomial_nll(torch.zeros(5), torch.zeros(5))
    with pytest.raises(ValueError, match=r"^multinomial_nll: counts must be dense or sparse_csr, got torch.sparse_coo"):
        multinomial_nll(torch.zeros(5, 2), torch.zeros(5, 2).to_sparse())


@pytest.mark.skipif(not native_on_cpu("multinomial_nll"), reason="the reference has a value for no items at all")
@pytest.mark.parametrize("direction", ["", "_backward"])
def test_the_operators_themselves_refuse_rows_without_items(direction: str) -> None:
    empty, rows = torch.zeros(2, 0), torch.zeros(2)
    args = (rows, empty, empty, rows, rows) if direction else (empty, empty)
    with pytest.raises(RuntimeError, match=r"counts must have shape \[B, V\], V at least 1"):
        getattr(torch.ops.fastvae, f"multinomial_nll{direction}")(*args)
