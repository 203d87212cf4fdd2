"""The other CUDA kernels on the emulated grid: likelihoods, log ratio, priors and reductions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastvae import ops
from tests.csrc.grid import (
    DTYPES,
    SPREADS,
    STORAGES,
    alignments,
    assert_near,
    call,
    draw,
    key_of,
    needs_compiler,
    sum_dtype,
)

SHAPES = [(1, 1, 1), (3, 2, 5), (1, 70, 20), (2, 67, 16), (1, 3, 136), (1, 2, 4096 + 8)]  # K, B, D
LIKELIHOODS = ["bernoulli_nll", "gaussian_nll", "discretized_logistic_nll"]
LEVELS = 17
STREAM = 7

pytestmark = needs_compiler


def data_of(name: str, rows: int, columns: int, storage: torch.dtype) -> Tensor:
    if name == "gaussian_nll":
        return draw(rows, columns, dtype=storage)
    levels = torch.arange(rows * columns).reshape(rows, columns) * 7 % LEVELS
    if name == "discretized_logistic_nll":
        return levels.to(storage)
    return (levels * 15).to(torch.uint8) if storage == torch.uint8 else (levels % 2).to(storage)


def parameter_of(spread: str, samples: int, rows: int, columns: int, dtype: torch.dtype) -> Tensor | None:
    shapes = {"scalar": (), "dimension": (columns,), "full": (samples, rows, columns)}
    return draw(*shapes[spread], dtype=dtype) / 2 if spread in shapes else None


def cases() -> list[tuple[str, torch.dtype, str, torch.dtype]]:
    chosen = [("bernoulli_nll", storage, "none", torch.float32) for storage in (torch.float32, torch.bool, torch.uint8)]
    chosen += [(name, torch.float32, spread, torch.float32) for name in LIKELIHOODS[1:] for spread in SPREADS[1:]]
    for dtype in DTYPES[1:]:
        chosen += [(LIKELIHOODS[0], dtype, "none", dtype), (LIKELIHOODS[1], dtype, "full", dtype)]
    for storage in (torch.float32, torch.uint8, torch.bool):  # with 16-bit outputs
        chosen.append(("bernoulli_nll", storage, "none", torch.bfloat16))
    chosen += [
        ("gaussian_nll", torch.float32, "full", torch.float16),
        ("gaussian_nll", torch.float32, "dimension", torch.bfloat16),
    ]
    chosen += [("discretized_logistic_nll", torch.uint8, "full", torch.bfloat16)]
    return [*chosen, ("discretized_logistic_nll", torch.uint8, "dimension", torch.float32)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "storage", "spread", "dtype"), cases())
@pytest.mark.parametrize(("samples", "rows", "columns"), SHAPES)
def test_likelihood_equals_the_operator(
    samples: int,
    rows: int,
    columns: int,
    name: str,
    storage: torch.dtype,
    spread: str,
    dtype: torch.dtype,
    masked: bool,
) -> None:
    output, target = draw(samples, rows, columns, dtype=dtype), data_of(name, rows, columns, storage)
    parameter = parameter_of(spread, samples, rows, columns, dtype)
    mask = torch.arange(rows * columns).reshape(rows, columns) % 3 != 1 if masked else None
    leaves = [x.clone().requires_grad_() for x in (output, parameter) if x is not None]
    others = {"num_levels": LEVELS} if name == "discretized_logistic_nll" else {}
    arguments = [leaves[0], target, *leaves[1:]]
    if name == "discretized_logistic_nll":
        arguments = [leaves[0], leaves[1], target]
    nll = getattr(ops, name)(*arguments, mask=mask, **others)
    grad_nll = torch.linspace(-1, 2, samples * rows, dtype=nll.dtype).reshape(samples, rows)
    gradients = torch.autograd.grad(nll, leaves, grad_nll)
    code = 4 if storage == torch.uint8 and name != "bernoulli_nll" else STORAGES.index(storage)
    for blocks, aligned in enumerate(alignments(output), start=1):
        found, grad_output = torch.full_like(nll, torch.nan), torch.full_like(output, torch.nan)
        grad_parameter = None  # of a parameter shared by rows: before the host rounds it to the parameter's type
        if parameter is not None:
            kept = parameter.dtype if spread == "full" else sum_dtype(output)
            grad_parameter = torch.full_like(parameter, torch.nan, dtype=kept)
        head = (blocks, DTYPES.index(dtype), aligned, LIKELIHOODS.index(name), samples * rows, rows, columns)
        inputs = (output, code, target, mask, SPREADS.index(spread), DTYPES.index(dtype), parameter, LEVELS)
        call("likelihood", *head, *inputs, found, None, None, None)
        assert_near(found, nll, sum_dtype(output))
        call("likelihood", *head, *inputs, None, grad_nll, grad_output, grad_parameter)
        assert_near(grad_output, gradients[0], dtype)
        if grad_parameter is not None:
            scale = 1 if spread == "full" else gradients[1].abs().max().clamp_min(1)
            assert_near(grad_parameter.to(dtype) / scale, gradients[1] / scale, dtype)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("samples", "rows", "columns"), SHAPES)
def test_multinomial_equals_the_operator(
    samples: int, rows: int, columns: int, dtype: torch.dtype, compressed: bool
) -> None:
    logits = draw(samples, rows, columns, dtype=dtype) * 3
    counts = (torch.arange(rows * columns).reshape(rows, columns) * 5 % 7 - 3).clamp_min(0).to(dtype)
    sparse = counts.to_sparse_csr() if compressed else None
    leaf = logits.clone().requires_grad_()
    nll = ops.multinomial_nll(leaf, counts if sparse is None else sparse)
    grad_nll = torch.linspace(-1, 2, samples * rows, dtype=nll.dtype).reshape(samples, rows)
    (gradient,) = torch.autograd.grad(nll, leaf, grad_nll)
    values, starts, indices, nonzeros = counts, None, None, 0
    if sparse is not None:
        values, starts, indices = sparse.values(), sparse.crow_indices(), sparse.col_indices()
        nonzeros = values.numel()
    for blocks, aligned in enumerate(alignments(logits), start=1):
        kept = [torch.full_like(nll, torch.nan) for _ in range(3)]
        grad_logits = torch.full_like(logits, torch.nan)
        head = (blocks, DTYPES.index(dtype), aligned, samples * rows, rows, columns, logits, DTYPES.index(dtype))
        call("multinomial", *head, values, starts, indices, nonzeros, *kept, None, None)
        assert_near(kept[0], nll, sum_dtype(logits))
        torch.testing.assert_close(kept[1], torch.logsumexp(logits.to(nll.dtype), dim=-1))
        call("multinomial", *head, values, starts, indices, nonzeros, *kept, grad_nll, grad_logits)
        scale = counts.sum(1).max().clamp_min(1)
        assert_near(grad_logits / scale, gradient / scale, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("samples", "rows", "columns"), SHAPES)
def test_log_ratio_equals_the_operator(samples: int, rows: int, columns: int, dtype: torch.dtype) -> None:
    mu, logvar = draw(2, rows, columns, dtype=dtype)
    leaves = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
    z, ratio = ops.gaussian_rsample_log_ratio(*leaves, key_of(), samples, stream=STREAM)
    grad_z, grad_ratio = draw(*z.shape, dtype=dtype), torch.linspace(-1, 1, samples * rows, dtype=ratio.dtype)
    grad_ratio = grad_ratio.reshape(samples, rows)
    gradients = torch.autograd.grad((z, ratio), leaves, (grad_z, grad_ratio))
    for blocks, aligned in enumerate(alignments(mu), start=1):
        found = torch.full_like(z, torch.nan), torch.full_like(ratio, torch.nan)
        found_gradients = torch.full_like(mu, torch.nan), torch.full_like(mu, torch.nan)
        head = (blocks, DTYPES.index(dtype), aligned, key_of(), STREAM, rows, columns, samples, mu, logvar)
        call("log_ratio", *head, *found, None, None, None, None)
        call("log_ratio", *head, None, None, grad_z, grad_ratio, *found_gradients)
        assert_near(found[0], z, dtype)
        torch.testing.assert_close(found[1], ratio.detach(), rtol=2e-6, atol=2e-6 * columns)
        for one, wanted in zip(found_gradients, gradients, strict=True):
            assert_near(one, wanted, dtype)


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("reduction", ["none", "example", "dimension", "both"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (130, 20), (3, 4096 + 8)])
def test_reductions_and_priors_equal_the_operator(rows: int, columns: int, reduction: str, with_prior: bool) -> None:
    tensors = draw(5, rows, columns) / 2
    leaves = [x.clone().requires_grad_() for x in tensors[: 4 if with_prior else 2]]
    outputs = ops.gaussian_rsample_kl(*leaves[:2], key_of(), *leaves[2:], stream=STREAM, reduction=reduction)
    cotangents = [tensors[4], *(torch.linspace(-1, 1, kl.numel()).reshape(kl.shape) for kl in outputs[1:])]
    gradients = torch.autograd.grad(outputs, leaves, cotangents)
    where = {"none": [0], "example": [1], "dimension": [2], "both": [1, 2]}[reduction]  # among elements, rows, columns
    prior = list(tensors[2:4]) if with_prior else [None, None]
    for blocks, aligned in enumerate(alignments(tensors), start=1):
        z = torch.full_like(tensors[0], torch.nan)
        sums: list[Tensor | None] = [None] * 3
        given: list[Tensor | None] = [None] * 3
        for place, kl, cotangent in zip(where, outputs[1:], cotangents[1:], strict=True):
            sums[place], given[place] = torch.full_like(kl, torch.nan), cotangent
        found = [torch.full_like(x, torch.nan) for x in leaves] + [None] * (4 - len(leaves))
        head = (blocks, 0, aligned, key_of(), STREAM, rows, columns, tensors[0], tensors[1], *prior)
        call("full", *head, z, *sums, *[None] * 8)
        call("full", *head, *[None] * 4, cotangents[0], *given, *found)
        assert_near(z, outputs[0], torch.float32)
        for place, kl in zip(where, outputs[1:], strict=True):
            torch.testing.assert_close(sums[place], kl.detach(), rtol=2e-6, atol=1e-6)
        for one, wanted in zip(found, gradients, strict=False):
            assert one is not None
            assert_near(one, wanted, torch.float32)
