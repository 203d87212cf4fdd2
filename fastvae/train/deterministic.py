"""Deterministic algorithms of PyTorch, for runs on a GPU whose resume is exact. fastvae's operators always are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FIXED = (":4096:8", ":16:8")  # the two settings with which cuBLAS is deterministic


@contextmanager
def fixed_workspace(wanted: bool, device: str) -> Iterator[None]:
    """Give cuBLAS a fixed workspace inside the block; without it, its sums may differ from call to call.

    cuBLAS reads the setting when a process first uses it, so the block must be entered before that.

    Args:
        wanted: whether to do so; False changes nothing.
        device: "auto", "cpu" or "cuda", as in ``train.device``.

    Raises:
        ValueError: another workspace is set, or CUDA was already used without one.
    """
    if not wanted or device == "cpu" or not torch.cuda.is_available():
        yield
        return
    before = os.environ.get(WORKSPACE)
    if before is not None and before not in _FIXED:
        raise ValueError(f"train.deterministic: {WORKSPACE} must be {' or '.join(_FIXED)}, got {before!r}; unset it")
    if before is None and torch.cuda.is_initialized():
        raise ValueError(
            f"train.deterministic must set {WORKSPACE} before CUDA is first used, and CUDA was already used; start "
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
    """Use deterministic algorithms of PyTorch inside the block; an operator that has none raises RuntimeError.

    The previous settings are restored when the block ends. Nothing changes if ``wanted`` is False.
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
