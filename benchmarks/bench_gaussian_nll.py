"""gaussian_nll with its three shapes of log variance compared with the formula of the normal density."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastvae.bench import check_and_benchmark, goal, main

BOTH = "forward+backward"
OPERATOR = {"operator": "gaussian_nll"}
GOALS = (
    goal(**OPERATOR, shape=(4096, 784), part=BOTH),
    goal(**OPERATOR, shape=(4096, 784), variant="per-dimension", part=BOTH),
    goal(**OPERATOR, shape=(4096, 784), variant="full", part=BOTH),
    goal(**OPERATOR, shape=(128, 784), part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_gaussian_nll(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("gaussian_nll", GOALS, Path(__file__).parent / "results"))
