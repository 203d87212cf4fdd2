"""gaussian_rsample_kl, and its noise generation alone, compared with the usual PyTorch expressions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvae.bench import EAGER, LIMIT, Bar, check_and_benchmark, goal, main

BOTH = "forward+backward"
KL = {"operator": "gaussian_rsample_kl"}
BFLOAT16 = {"dtype": torch.bfloat16}
# torch.add moves the same number of bytes: 3.5 times its time is 1 / 3.5 of its throughput.
GOALS = (
    goal(Bar(EAGER, 8, aim=12), Bar(LIMIT, 1 / 3.5, aim=1 / 2), **KL, shape=(8192, 512)),
    goal(Bar(EAGER, 5, aim=8), **KL, shape=(8192, 512), part=BOTH),
    goal(Bar(EAGER, 5, aim=8), **KL, shape=(1024, 256)),
    goal(Bar(EAGER, 4, aim=6), **KL, shape=(1024, 256), part=BOTH),
    goal(Bar(EAGER, 1.5, aim=3), **KL, shape=(128, 20), part=BOTH),
    goal(Bar(EAGER, 5, aim=8), operator="noise", shape=(2**12, 2**12)),
    goal(Bar("fastvae float32", 1, aim=1.5), **KL, **BFLOAT16, shape=(8192, 512), with_float32=True),
    goal(**KL, shape=(1024, 256), variant="prior", part=BOTH),
    goal(**KL, shape=(1024, 256), variant="both", part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_gaussian_rsample_kl(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("gaussian_rsample_kl", GOALS, Path(__file__).parent / "results"))
