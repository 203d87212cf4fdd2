"""bernoulli_nll beside binary_cross_entropy_with_logits summed over each example."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastvae.bench import COMPILED, EAGER, Bar, check_and_benchmark, goal, main

BOTH = "forward+backward"
OPERATOR = {"operator": "bernoulli_nll"}
GOALS = (
    goal(Bar(EAGER, 3, aim=6), **OPERATOR, shape=(128, 784), part=BOTH),
    goal(Bar(EAGER, 3, aim=6), **OPERATOR, shape=(4096, 784), part=BOTH),
    goal(**OPERATOR, shape=(4096, 784)),
    goal(**OPERATOR, shape=(4096, 784), variant="uint8", part=BOTH),
)
CUDA = {"device": "cuda", **OPERATOR}
CUDA_GOALS = (
    goal(Bar(EAGER, 3), Bar(COMPILED, 1), **CUDA, shape=(65536, 784)),
    goal(Bar(EAGER, 3), Bar(COMPILED, 1.2), **CUDA, shape=(65536, 784), part=BOTH),
    goal(**CUDA, shape=(128, 784), part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_bernoulli_nll(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("bernoulli_nll", GOALS, Path(__file__).parent / "results"))
