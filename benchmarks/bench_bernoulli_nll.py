"""bernoulli_nll compared with binary_cross_entropy_with_logits summed over each example."""

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
# Comments on the requirements above. The case with one example shows the fixed overhead of a call.
REMARKS = """\
At 128 x 784 the call takes 47 microseconds: about 20 are overhead (see the case with one example;
`torch.autograd.grad` of a negation takes 12, and a Python autograd function most of the rest), 18 are the forward
pass, which also writes the gradient, and 6 are the gradient's product with the rows' weights. The forward pass is
compute-bound: 22 512-bit instructions per 16 pixels, 11 of them multiply-adds, on two threads. Optimisations so far:
one logarithm per eight pixels (forward pass 28 to 16), the gradient computed in the forward pass instead of a backward
pass with another exponential (52 to 46 in total), and fewer checks and saved tensors (1). A third of eager's time would
leave 26 for both kernels and for starting the threads. Not tried: an autograd function in C++, which the stable ABI
does not support."""


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_bernoulli_nll(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("bernoulli_nll", GOALS, Path(__file__).parent / "results", remarks=REMARKS))
