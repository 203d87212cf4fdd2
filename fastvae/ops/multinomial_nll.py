"""-log p(x|z) of counts under a multinomial, from logits, in one pass over the decoder's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_output
from fastvae.ops._library import call, define, define_backward, register_autograd, variation
from fastvae.ops._transforms import RowDims


def _fake(logits: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    nll = logits.new_empty(logits.shape[:-1], dtype=reference.compute_dtype(logits))
    return nll, torch.empty_like(nll), torch.empty_like(nll)


def _fake_csr(
    logits: Tensor, crow_indices: Tensor, col_indices: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake(logits, values)


def _rows(args: tuple[Any, ...]) -> RowDims:
    logits, counts = args[:2]
    dim = logits.dim() - counts.dim()
    return RowDims(arguments={0: dim, 1: 0}, outputs=(dim, dim, dim))


def _rows_csr(args: tuple[Any, ...]) -> None:
    return None  # compressed rows are not merged


_forward = define(
    "multinomial_nll(Tensor logits, Tensor counts) -> (Tensor nll, Tensor logsumexp, Tensor total)",
    reference.multinomial_nll,
    _fake,
)
_backward = define_backward(
    "multinomial_nll_backward(Tensor grad_nll, Tensor logits, Tensor counts, Tensor logsumexp, Tensor total) -> Tensor",
    reference.multinomial_nll_backward,
    "logits",
)
_function = register_autograd(
    _forward, _backward, reference.multinomial_nll_formula, differentiable=(0,), find_rows=_rows, kept_outputs=2
)

_csr = define(
    "multinomial_nll_csr(Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values) "
    "-> (Tensor nll, Tensor logsumexp, Tensor total)",
    reference.multinomial_nll_csr,
    _fake_csr,
)
_csr_backward = define_backward(
    "multinomial_nll_csr_backward(Tensor grad_nll, Tensor logits, Tensor crow_indices, Tensor col_indices, "
    "Tensor values, Tensor logsumexp, Tensor total) -> Tensor",
    reference.multinomial_nll_csr_backward,
    "logits",
)
_csr_function = register_autograd(
    _csr, _csr_backward, reference.multinomial_nll_csr_formula, differentiable=(0,), find_rows=_rows_csr, kept_outputs=2
)


def multinomial_nll(logits: Tensor, counts: Tensor) -> Tensor:
    """Negative log likelihood of counts over V items under a multinomial, without its constant.

    nll = -sum_v counts_v log softmax(logits)_v (Liang et al. 2018, arXiv:1802.05814, equation 2), computed in float32
    (float64 for float64). For the backward, counts_sum softmax(logits) - counts, one logsumexp and one sum for each row
    are kept with the input. A count of 0 ignores its logit, even -inf; a logit of -inf with a count gives inf.

    Args:
        logits: ``[B, V]``, or ``[K, B, V]`` of K importance samples; float32, bfloat16, float16 or float64.
        counts: ``[B, V]``, dense or ``torch.sparse_csr``, of floats or integers. Compressed counts
            get no gradient.

    Returns:
        ``[B]`` or ``[K, B]`` nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device, or compressed counts that require a
            gradient.
    """
    check_output("multinomial_nll", "logits", logits, "counts", counts)
    if counts.dim() != 2 or counts.shape[1] == 0:
        raise ValueError(f"multinomial_nll: counts must have shape [B, V], V at least 1, got {list(counts.shape)}")
    if counts.layout == torch.sparse_csr:
        if counts.requires_grad:
            raise ValueError("multinomial_nll: counts in compressed rows get no gradient; give counts.detach()")
        with torch._C._DisableFuncTorch():  # torch.func has no sparse tensors; their parts, which are data, it takes
            crow_indices, col_indices, values = counts.crow_indices(), counts.col_indices(), counts.values()
        args = (logits, crow_indices, col_indices, _usable(values, logits))
        nll, _, _ = call(_csr, _csr_function, args, logits.requires_grad)
        return nll
    if counts.layout != torch.strided:
        raise ValueError(
            f"multinomial_nll: counts must be dense or sparse_csr, got {counts.layout}; use .to_sparse_csr()"
        )
    change = variation(counts)
    nll, _, _ = call(_forward, _function, (logits, _usable(counts.detach(), logits)), logits.requires_grad)
    return nll if change is None else nll + _by_counts(logits, change)


def _by_counts(logits: Tensor, change: Tensor) -> Tensor:
    """-sum_v change_v log softmax(logits)_v: the likelihood is linear in the counts."""
    log_softmax = torch.log_softmax(logits.to(reference.compute_dtype(logits)), dim=-1)
    return -(log_softmax.clamp(min=torch.finfo(log_softmax.dtype).min) * change).sum(-1)


def _usable(counts: Tensor, logits: Tensor) -> Tensor:
    """Counts in a dtype that the operators take: the logits' or float32."""
    return counts if counts.dtype in (logits.dtype, torch.float32) else counts.float()
