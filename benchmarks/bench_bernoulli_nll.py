"""bernoulli_nll beside binary_cross_entropy_with_logits summed over each example."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastvae.bench import EAGER, Bar, check_and_benchmark, goal, main

BOTH = "forward+backward"
OPERATOR = {"operator": "bernoulli_nll"}
GOALS = (
    goal(Bar(EAGER, 3, aim=6), **OPERATOR, shape=(128, 784), part=BOTH),
    goal(Bar(EAGER, 3, aim=6), **OPERATOR, shape=(4096, 784), part=BOTH),
    goal(**OPERATOR, shape=(1, 784), part=BOTH),
    goal(**OPERATOR, shape=(4096, 784)),
    goal(**OPERATOR, shape=(4096, 784), variant="uint8", part=BOTH),
)
# What is known of the bars above; the row of one example has what a call costs before it computes anything.
REMARKS = """\
At 128 x 784 about 20 of the 47 microseconds are the call itself (see the case of one example; `torch.autograd.grad`
of a negation alone takes 12, a Python autograd function most of the rest), 18 the forward that also writes the
gradient, 6 its product with the rows' weights. The forward is bound by arithmetic: 22 512-bit instructions for 16
pixels, 11 of them multiply-adds, on two threads. Tried: one logarithm for eight pixels (forward 28 to 16), the
gradient in the forward and not in a backward that exponentiates again (52 to 46 in all), fewer checks and saved
tensors (1). A third of eager's time would leave 26 for both kernels and the threads' start; not tried: an autograd
function in C++, which the stable ABI has no form for."""


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_bernoulli_nll(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("bernoulli_nll", GOALS, Path(__file__).parent / "results", remarks=REMARKS))
