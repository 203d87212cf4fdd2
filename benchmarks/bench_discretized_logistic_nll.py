"""discretized_logistic_nll of 32 x 32 colour images compared with the difference of sigmoids."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastvae.bench import check_and_benchmark, goal, main

BOTH = "forward+backward"
OPERATOR = {"operator": "discretized_logistic_nll"}
GOALS = (
    goal(**OPERATOR, shape=(128, 3072)),
    goal(**OPERATOR, shape=(128, 3072), part=BOTH),
    goal(**OPERATOR, shape=(128, 3072), variant="full", part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_discretized_logistic_nll(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("discretized_logistic_nll", GOALS, Path(__file__).parent / "results"))
