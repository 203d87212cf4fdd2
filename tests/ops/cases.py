"""Shared by the operators' tests: shapes, dtypes, inputs, tolerances, and runs in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from fastvae import ops

ROOT = Path(__file__).resolve().parents[2]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SHAPES = ((1, 1), (0, 4), (4, 0), (3,), (3, 1), (5, 7), (2, 3, 5), (33, 67), (128, 20), (3, 1025))

# Errors of values and gradients relative to the float64 reference, per dtype of the input: (relative, absolute).
TOLERANCES = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (2e-6, 2e-5),  # the absolute error of z: that of the noise is 1e-5
    torch.bfloat16: (8e-3, 2e-5),  # one rounding to 8 bits
    torch.float16: (1e-3, 6e-5),  # one rounding to 11 bits, subnormals
}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return fixed test input from a separate generator."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gaussian(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return ``mu`` and ``logvar`` like those of a trained encoder."""
    return normal(*shape, seed=seed, dtype=dtype), normal(*shape, seed=seed + 1, dtype=dtype)


def native_on_cpu(operator: str) -> bool:
    return any(b.operator == operator and b.device == "cpu" and b.name == "native" for b in ops.backend())


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def python(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter in the repository's root."""
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def assert_close(actual: Tensor, truth: Tensor, dtype: torch.dtype) -> None:
    """Check that ``actual`` is within ``dtype``'s tolerance of ``truth``, which is float64."""
    relative, absolute = TOLERANCES[dtype]
    torch.testing.assert_close(actual.double(), truth, rtol=relative, atol=absolute, equal_nan=True)
