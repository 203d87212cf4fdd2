"""Benchmark problems of the operators: realistic inputs, our operator, the eager expression and the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae import ops
from fastvae.bench import eager
from fastvae.ops import reference

Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The inputs of an operator and several implementations of it."""

    inputs: tuple[Tensor, ...]
    """Inputs that require gradients."""
    ours: Function
    """Our operator."""
    eager: Function
    """The usual expression in eager PyTorch."""
    reference: Function
    """Our reference in plain PyTorch."""
    forward_bytes: int
    """Bytes that an ideal forward pass reads and writes."""
    backward_bytes: int
    """Bytes that an ideal backward pass reads and writes."""
    elements: int
    """Number of latents, pixels or counts."""
    equal_outputs: tuple[int, ...] = (0,)
    """Indices of the outputs that do not depend on the noise and so equal the eager expression's."""
    equal_gradients: tuple[int, ...] = (0,)
    """Indices of the inputs whose gradients equal the eager expression's."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A factory of an operator's problems."""

    build: Callable[..., Problem]
    """Builds a problem from (shape, dtype, device, variant)."""
    default_shape: tuple[int, ...]
    """Default shape of a problem."""
    axes: str
    """Names of the shape's axes."""
    variants: tuple[str, ...] = ("",)
    """Names of the variants; the first is the default."""


def normal(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int, scale: float = 1.0) -> Tensor:
    """Deterministic normal inputs, at about the scale of a trained encoder's or decoder's outputs."""
    generator = torch.Generator(device).manual_seed(seed)
    return (torch.randn(shape, generator=generator, device=device) * scale).to(dtype)


def count_bytes(*tensors: Tensor) -> int:
    """The size of the tensors' elements in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _gaussian_rsample_kl(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, variant: str) -> Problem:
    inputs = [normal(shape, dtype, device, 1), normal(shape, dtype, device, 2, 0.5)]
    key = ops.noise_key(0, device=device)
    if variant == "prior":
        inputs += [normal(shape, dtype, device, 3), normal(shape, dtype, device, 4, 0.5)]
    plain = reference.gaussian_rsample_kl_full
    ways: dict[str, tuple[Function, Function, Function]] = {
        "": (
            lambda mu, lv: ops.gaussian_rsample_kl(mu, lv, key),
            eager.gaussian_rsample_kl,
            lambda mu, lv: reference.gaussian_rsample_kl(mu, lv, key, 0),
        ),
        "prior": (
            lambda mu, lv, pm, plv: ops.gaussian_rsample_kl(mu, lv, key, pm, plv),
            eager.gaussian_rsample_kl_prior,
            lambda mu, lv, pm, plv: plain(mu, lv, pm, plv, key, 0, 1)[:2],
        ),
        "both": (
            lambda mu, lv: ops.gaussian_rsample_kl(mu, lv, key, reduction="both"),
            eager.gaussian_rsample_kl_both,
            lambda mu, lv: plain(mu, lv, None, None, key, 0, 3),
        ),
    }
    ours, baseline, without_library = ways[variant]
    size = count_bytes(inputs[0])
    return Problem(
        inputs=tuple(inputs),
        ours=ours,
        eager=baseline,
        reference=without_library,
        forward_bytes=(len(inputs) + 1) * size,
        backward_bytes=(2 * len(inputs) + 1) * size,
        elements=inputs[0].numel(),
        equal_outputs=(1, 2) if variant == "both" else (1,),
        equal_gradients=tuple(i for i in range(len(inputs)) if i != 1),
    )


def _gaussian_rsample_log_ratio(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, variant: str
) -> Problem:
    num_samples, *latents = shape
    mu, logvar = normal(tuple(latents), dtype, device, 1), normal(tuple(latents), dtype, device, 2, 0.5)
    key = ops.noise_key(0, device=device)
    z_bytes = num_samples * count_bytes(mu)
    return Problem(
        inputs=(mu, logvar),
        ours=lambda m, lv: ops.gaussian_rsample_log_ratio(m, lv, key, num_samples),
        eager=lambda m, lv: eager.gaussian_rsample_log_ratio(m, lv, num_samples),
        reference=lambda m, lv: reference.gaussian_rsample_log_ratio(m, lv, key, num_samples, 0, 0),
        forward_bytes=count_bytes(mu, logvar) + z_bytes,
        backward_bytes=2 * count_bytes(mu, logvar) + z_bytes,
        elements=num_samples * mu.numel(),
        equal_outputs=(),
        equal_gradients=(),
    )


def _bernoulli_nll(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, variant: str) -> Problem:
    logits = normal(shape, dtype, device, 1, 2.0)
    target = torch.sigmoid(normal(shape, dtype, device, 2, 4.0))
    pixels = target if variant == "float" else (target.float() * 255).round().to(torch.uint8)
    return Problem(
        inputs=(logits,),
        ours=lambda x: (ops.bernoulli_nll(x, pixels),),
        eager=lambda x: eager.bernoulli_nll(x, pixels.to(dtype) / 255 if variant == "uint8" else pixels),
        reference=lambda x: (reference.bernoulli_nll(x, pixels, None),),
        forward_bytes=count_bytes(logits, pixels),
        backward_bytes=2 * count_bytes(logits) + count_bytes(pixels),
        elements=logits.numel(),
    )


def _spread_shape(shape: tuple[int, ...], variant: str) -> tuple[int, ...]:
    return {"scalar": (), "per-dimension": shape[1:], "full": shape}[variant]


def _gaussian_nll(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, variant: str) -> Problem:
    mean, target = normal(shape, dtype, device, 1), normal(shape, dtype, device, 2)
    logvar = normal(_spread_shape(shape, variant), dtype, device, 3, 0.5)
    return Problem(
        inputs=(mean, logvar),
        ours=lambda m, lv: (ops.gaussian_nll(m, target, lv),),
        eager=lambda m, lv: eager.gaussian_nll(m, lv, target),
        reference=lambda m, lv: (reference.gaussian_nll(m, target, lv, None),),
        forward_bytes=count_bytes(mean, target, logvar),
        backward_bytes=2 * count_bytes(mean, logvar) + count_bytes(target),
        elements=mean.numel(),
        equal_gradients=(0, 1),
    )


def _discretized_logistic_nll(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, variant: str
) -> Problem:
    mean, levels = normal(shape, dtype, device, 1, 0.5).clamp(-1, 1), 256
    log_scale = normal(_spread_shape(shape, variant), dtype, device, 3, 0.5) - 2
    pixels = ((normal(shape, torch.float32, device, 2, 0.5).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Problem(
        inputs=(mean, log_scale),
        ours=lambda m, s: (ops.discretized_logistic_nll(m, s, pixels),),
        eager=lambda m, s: eager.discretized_logistic_nll(m, s, pixels.to(dtype), levels),
        reference=lambda m, s: (reference.discretized_logistic_nll(m, s, pixels, None, levels),),
        forward_bytes=count_bytes(mean, pixels, log_scale),
        backward_bytes=2 * count_bytes(mean, log_scale) + count_bytes(pixels),
        elements=mean.numel(),
        equal_gradients=(),  # the eager difference of sigmoids cancels, and its clamp has no gradient
    )


def _multinomial_nll(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, variant: str) -> Problem:
    logits = normal(shape, dtype, device, 1)
    counts = (normal(shape, torch.float32, device, 2) > 2.3).to(dtype)  # about 1 % of the items
    given = counts
    if variant == "csr":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            given = counts.to_sparse_csr()
    counts_bytes = count_bytes(given.values(), given.col_indices()) if variant == "csr" else count_bytes(counts)
    return Problem(
        inputs=(logits,),
        ours=lambda x: (ops.multinomial_nll(x, given),),
        eager=lambda x: eager.multinomial_nll(x, counts),
        reference=lambda x: reference.multinomial_nll(x, counts)[:1],
        forward_bytes=count_bytes(logits) + counts_bytes,
        backward_bytes=2 * count_bytes(logits) + counts_bytes,
        elements=logits.numel(),
    )


SPREADS = ("scalar", "per-dimension", "full")
OPERATORS: dict[str, Operator] = {
    "gaussian_rsample_kl": Operator(
        build=_gaussian_rsample_kl, default_shape=(8192, 512), axes="B D", variants=("", "prior", "both")
    ),
    "gaussian_rsample_log_ratio": Operator(
        build=_gaussian_rsample_log_ratio, default_shape=(50, 128, 50), axes="K B D"
    ),
    "bernoulli_nll": Operator(build=_bernoulli_nll, default_shape=(4096, 784), axes="B D", variants=("float", "uint8")),
    "gaussian_nll": Operator(build=_gaussian_nll, default_shape=(4096, 784), axes="B D", variants=SPREADS),
    "discretized_logistic_nll": Operator(
        build=_discretized_logistic_nll, default_shape=(1024, 3072), axes="B D", variants=SPREADS
    ),
    "multinomial_nll": Operator(
        build=_multinomial_nll, default_shape=(500, 20000), axes="B V", variants=("dense", "csr")
    ),
}
