"""Which library computes a CPU run's float32 matrix products.

PyTorch hands them to MKL, which takes its AVX2 kernels on processors that are not Intel's, whatever these can do.
oneDNN, which PyTorch also brings, takes AVX-512 there: large products are twice as fast, small ones lose about 12 us a
call (``benchmarks/bench_matmul.py``). PyTorch's one switch for it is the permission to let oneDNN use bfloat16, which
oneDNN makes use of on AMX units only: so this is for processors without AMX, where the result is float32 all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fastvae.train.config import MatmulLibrary

_WORTH_IT = 4e6  # multiply-adds in a mean product: below, oneDNN's set-up of a call costs what its kernels gain


@contextmanager
def matmul_library(choice: MatmulLibrary, model: nn.Module, rows: int, device: torch.device) -> Iterator[str]:
    """While the block runs, the CPU's float32 products go to the library that is faster for them.

    A setting that the user made of ``torch.backends.mkldnn.matmul.fp32_precision`` stays as it is, and every setting is
    as it was when the block ends.

    Args:
        choice: "auto", or "default" to change nothing.
        model: whose matrices are multiplied.
        rows: examples in a micro-batch.
        device: where the model runs.

    Yields:
        "oneDNN" or "PyTorch's choice", for the log.
    """
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    wanted = choice == "auto" and device.type == "cpu" and before == "none" and _has_idle_avx512()
    if not (wanted and _mean_product(model, rows) >= _WORTH_IT):
        yield "PyTorch's choice"
        return
    settings.fp32_precision = "bf16"
    try:
        yield "oneDNN"
    finally:
        settings.fp32_precision = before


def _mean_product(model: nn.Module, rows: int) -> float:
    """Multiply-adds of the mean product of ``rows`` examples with a matrix of the model."""
    sizes = [parameter.numel() for parameter in model.parameters() if parameter.dim() == 2]
    return rows * sum(sizes) / max(1, len(sizes))


@functools.cache
def _has_idle_avx512() -> bool:
    """Whether MKL leaves this processor's AVX-512 alone, and oneDNN has no AMX to lose precision on."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux: leave everything as it is
        return False
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    is_amd = facts.get("vendor_id", "").strip() == "AuthenticAMD"
    return is_amd and {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= set(flags) and "amx_tile" not in flags
