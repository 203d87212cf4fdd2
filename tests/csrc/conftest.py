"""Fixtures of the tests of the CUDA kernels' formulas."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from tests.csrc.grid import library


@pytest.fixture(params=[-1.0, 0.0, 1.0], ids=lambda share: f"error {share:+}")
def error(request: pytest.FixtureRequest) -> Iterator[float]:
    """The error of every approximate instruction as a fraction of its documented limit."""
    library().set_emulated_error(ctypes.c_float(request.param))
    yield request.param
    library().set_emulated_error(ctypes.c_float(0.0))
