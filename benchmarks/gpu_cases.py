"""The cases that are measured on a GPU: all operators and variants, at several times the size of the L2 cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from gpu_bars import BACKWARD, BOTH, FORWARD, NOISE, SHAPES

from fastvae.bench import Case, build_case

TINY = {2: (24, 16), 3: (3, 8, 16)}  # shapes of a dry run
# The first variants of all operators are measured first, so that a short run measures the most important ones.
FIRST = (
    ("gaussian_rsample_kl", ""),
    ("bernoulli_nll", "float"),
    ("bernoulli_nll", "uint8"),
    ("gaussian_rsample_log_ratio", ""),
    ("multinomial_nll", "dense"),
    ("gaussian_nll", "scalar"),
    ("discretized_logistic_nll", "scalar"),  # its targets are always uint8
)
LATER = (
    ("gaussian_rsample_kl", "prior"),
    ("gaussian_rsample_kl", "both"),
    ("multinomial_nll", "csr"),
    ("gaussian_nll", "per-dimension"),
    ("gaussian_nll", "full"),
    ("discretized_logistic_nll", "per-dimension"),
    ("discretized_logistic_nll", "full"),
)


@dataclass(frozen=True, kw_only=True)
class GpuCase:
    """The description of a case, from which it is built."""

    operator: str
    variant: str = ""
    part: str = FORWARD
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    captured: bool = False

    def __str__(self) -> str:
        shape, dtype = "x".join(map(str, self.shape)), str(self.dtype).removeprefix("torch.")
        words = (self.operator, self.variant, "captured" if self.captured else "", self.part, shape, dtype)
        return " ".join(filter(None, words))

    def build(self, device: str, *, with_compiled: bool = False) -> Case:
        """Build the case with its inputs on the device."""
        return build_case(
            self.operator,
            self.part,
            self.shape,
            self.dtype,
            device,
            variant=self.variant,
            with_compiled=with_compiled,
            captured=self.captured,
        )

    def tiny(self) -> GpuCase:
        """The same case with a small shape for a dry run on the CPU."""
        return dataclasses.replace(self, shape=TINY[len(self.shape)], captured=False)


def in_parts(*parts: str) -> Iterator[GpuCase]:
    """All operators and variants in the given parts, in float32 and bfloat16."""
    for chosen in (FIRST, LATER):
        for operator, variant in chosen:
            for dtype in (torch.float32, torch.bfloat16):
                for part in parts:
                    yield GpuCase(operator=operator, variant=variant, part=part, shape=SHAPES[operator], dtype=dtype)


def small() -> Iterator[GpuCase]:
    """Latents of a small model, with and without launch overhead, and a medium size."""
    latents = {"operator": "gaussian_rsample_kl", "shape": (128, 20)}
    yield GpuCase(**latents, part=BOTH)
    yield GpuCase(**latents, captured=True)
    yield GpuCase(**latents, part=BOTH, captured=True)
    yield GpuCase(operator="gaussian_rsample_kl", shape=(8192, 512))


def noise() -> GpuCase:
    """The generation of standard normal noise."""
    return GpuCase(operator=NOISE, shape=(2**13, 2**13))


def headlines() -> list[GpuCase]:
    """The six cases that are compared with torch.compile first, because each compilation takes seconds."""
    latents = [
        GpuCase(operator="gaussian_rsample_kl", part=part, shape=SHAPES["gaussian_rsample_kl"], dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for part in (FORWARD, BOTH)
    ]
    pixels = GpuCase(operator="bernoulli_nll", variant="uint8", part=BOTH, shape=SHAPES["bernoulli_nll"])
    operator = "gaussian_rsample_log_ratio"
    return [*latents, pixels, GpuCase(operator=operator, part=BOTH, shape=SHAPES[operator])]


def profiled() -> list[GpuCase]:
    """The cases of the six kernels whose hardware counters are read."""
    latents = [
        GpuCase(operator="gaussian_rsample_kl", part=part, shape=SHAPES["gaussian_rsample_kl"], dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for part in (FORWARD, BACKWARD)
    ]
    operator = "gaussian_rsample_log_ratio"
    pixels = GpuCase(operator="bernoulli_nll", variant="uint8", shape=SHAPES["bernoulli_nll"])
    return [*latents, pixels, GpuCase(operator=operator, shape=SHAPES[operator])]
