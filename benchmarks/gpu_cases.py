"""What is measured on a GPU: every operator and variant, at sizes that are several times the L2 cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from gpu_bars import BACKWARD, BOTH, FORWARD, NOISE, SHAPES

from fastvae.bench import Case, build_case

TINY = {2: (24, 16), 3: (3, 8, 16)}  # of a dry run
# The first variants of every operator come first: what a short run measures is what matters most.
FIRST = (
    ("gaussian_rsample_kl", ""),
    ("bernoulli_nll", "float"),
    ("bernoulli_nll", "uint8"),
    ("gaussian_rsample_log_ratio", ""),
    ("multinomial_nll", "dense"),
    ("gaussian_nll", "scalar"),
    ("discretized_logistic_nll", "scalar"),  # its targets are uint8 always
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
    """One case, not built yet."""

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
        """The case on the device, with its inputs."""
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
        """The same at a size for a dry run on the CPU."""
        return dataclasses.replace(self, shape=TINY[len(self.shape)], captured=False)


def in_parts(*parts: str) -> Iterator[GpuCase]:
    """Every operator and variant in these parts, at float32 and bfloat16."""
    for chosen in (FIRST, LATER):
        for operator, variant in chosen:
            for dtype in (torch.float32, torch.bfloat16):
                for part in parts:
                    yield GpuCase(operator=operator, variant=variant, part=part, shape=SHAPES[operator], dtype=dtype)


def small() -> Iterator[GpuCase]:
    """What a small model's latents cost, with the launches and without them, and a size between."""
    latents = {"operator": "gaussian_rsample_kl", "shape": (128, 20)}
    yield GpuCase(**latents, part=BOTH)
    yield GpuCase(**latents, captured=True)
    yield GpuCase(**latents, part=BOTH, captured=True)
    yield GpuCase(operator="gaussian_rsample_kl", shape=(8192, 512))


def noise() -> GpuCase:
    """Standard normals alone."""
    return GpuCase(operator=NOISE, shape=(2**13, 2**13))


def headlines() -> list[GpuCase]:
    """The six that are compared with torch.compile first: each compilation takes seconds."""
    latents = [
        GpuCase(operator="gaussian_rsample_kl", part=part, shape=SHAPES["gaussian_rsample_kl"], dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for part in (FORWARD, BOTH)
    ]
    pixels = GpuCase(operator="bernoulli_nll", variant="uint8", part=BOTH, shape=SHAPES["bernoulli_nll"])
    operator = "gaussian_rsample_log_ratio"
    return [*latents, pixels, GpuCase(operator=operator, part=BOTH, shape=SHAPES[operator])]


def profiled() -> list[GpuCase]:
    """The six kernels whose counters are read."""
    latents = [
        GpuCase(operator="gaussian_rsample_kl", part=part, shape=SHAPES["gaussian_rsample_kl"], dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for part in (FORWARD, BACKWARD)
    ]
    operator = "gaussian_rsample_log_ratio"
    pixels = GpuCase(operator="bernoulli_nll", variant="uint8", shape=SHAPES["bernoulli_nll"])
    return [*latents, pixels, GpuCase(operator=operator, shape=SHAPES[operator])]
