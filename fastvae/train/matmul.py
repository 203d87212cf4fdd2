"""Which library computes a CPU run's float32 matrix products.

PyTorch calls MKL, which uses its AVX2 kernels on processors that are not Intel's, even if they have AVX-512. oneDNN,
which PyTorch also contains, uses AVX-512 there: large products are twice as fast, small ones are about 12 us slower per
call (``benchmarks/bench_matmul.py``). The only switch in PyTorch is the permission for oneDNN to use bfloat16, which
oneDNN does on AMX units only: so this is for processors without AMX, where the result stays float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fastvae.train.config import MatmulLibrary

_WORTH_IT = 4e6  # multiply-adds in a mean product: below it, oneDNN's overhead per call exceeds the gain


@contextmanager
def matmul_library(choice: MatmulLibrary, model: nn.Module, rows: int, device: torch.device) -> Iterator[str]:
    """Use the faster library for float32 matrix products on the CPU inside the block.

    A value of ``torch.backends.mkldnn.matmul.fp32_precision`` that the user set is not changed, and the previous
    settings are restored when the block ends.

    Args:
        choice: "auto", or "default" to change nothing.
        model: the model whose matrices are multiplied.
        rows: number of examples per micro-batch.
        device: device of the model.

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
    """Return the number of multiply-adds of the mean product of ``rows`` examples with a matrix of the model."""
    sizes = [parameter.numel() for parameter in model.parameters() if parameter.dim() == 2]
    return rows * sum(sizes) / max(1, len(sizes))


@functools.cache
def _has_idle_avx512() -> bool:
    """Whether MKL does not use this processor's AVX-512, and oneDNN has no AMX, which would lose precision."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux: change nothing
        return False
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    is_amd = facts.get("vendor_id", "").strip() == "AuthenticAMD"
    return is_amd and {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= set(flags) and "amx_tile" not in flags
