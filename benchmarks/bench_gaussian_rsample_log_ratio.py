"""gaussian_rsample_log_ratio, with K samples in one pass, compared with the two log densities."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastvae.bench import check_and_benchmark, goal, main

BOTH = "forward+backward"
OPERATOR = {"operator": "gaussian_rsample_log_ratio"}
GOALS = (
    goal(**OPERATOR, shape=(50, 128, 50)),
    goal(**OPERATOR, shape=(50, 128, 50), part=BOTH),
    goal(**OPERATOR, shape=(5, 20, 50), part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_gaussian_rsample_log_ratio(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("gaussian_rsample_log_ratio", GOALS, Path(__file__).parent / "results"))
