"""PyTorch's own operators made deterministic, for a run on a GPU that is resumed bit for bit; ours always are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FIXED = (":4096:8", ":16:8")  # the two settings under which cuBLAS gives the same bits every time


@contextmanager
def fixed_workspace(wanted: bool, device: str) -> Iterator[None]:
    """While the block runs cuBLAS has the fixed workspace without which its sums may change from call to call.

    cuBLAS reads the setting when a process first uses it, so the block must be entered before that.

    Args:
        wanted: False changes nothing.
        device: "auto", "cpu" or "cuda", as ``train.device`` has it.

    Raises:
        ValueError: another workspace is set, or CUDA is in use already without one.
    """
    if not wanted or device == "cpu" or not torch.cuda.is_available():
        yield
        return
    before = os.environ.get(WORKSPACE)
    if before is not None and before not in _FIXED:
        raise ValueError(f"train.deterministic needs {WORKSPACE} to be {' or '.join(_FIXED)}, got {before!r}; unset it")
    if before is None and torch.cuda.is_initialized():
        raise ValueError(
            f"train.deterministic must set {WORKSPACE} before CUDA's first use, and CUDA is in use already; start "
            f"Python with {WORKSPACE}={_FIXED[0]} in its environment"
        )
    os.environ[WORKSPACE] = before or _FIXED[0]
    try:
        yield
    finally:
        if before is None:
            del os.environ[WORKSPACE]


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """While the block runs every operator of PyTorch is deterministic, or raises RuntimeError where it has no such way.

    The settings are as they were when the block ends. It changes nothing where it is not wanted.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    was_on, was_lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=was_lenient)
        cudnn.deterministic, cudnn.benchmark = before
