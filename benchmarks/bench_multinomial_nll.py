"""multinomial_nll of users and items, dense and in compressed rows, compared with log_softmax and a dot product."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastvae.bench import EAGER, Bar, check_and_benchmark, goal, main

BOTH = "forward+backward"
OPERATOR = {"operator": "multinomial_nll"}
GOALS = (
    goal(Bar(EAGER, 2, aim=4), **OPERATOR, shape=(500, 20000), part=BOTH),
    goal(**OPERATOR, shape=(500, 20000)),
    goal(**OPERATOR, shape=(500, 20000), variant="csr", part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_multinomial_nll(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("multinomial_nll", GOALS, Path(__file__).parent / "results"))
