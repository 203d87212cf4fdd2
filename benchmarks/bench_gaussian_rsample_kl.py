"""gaussian_rsample_kl, and its noise alone, beside the textbook's two lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvae.bench import COMPILED, EAGER, LIMIT, Bar, check_and_benchmark, goal, main

BOTH = "forward+backward"
KL = {"operator": "gaussian_rsample_kl"}
BFLOAT16 = {"dtype": torch.bfloat16}
# torch.add moves the same bytes: 3.5 times its time is a share of 1 / 3.5.
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
CUDA = {"device": "cuda", **KL}
FAST = (Bar(LIMIT, 0.9), Bar(EAGER, 5), Bar(COMPILED, 1))
CUDA_GOALS = (
    goal(*FAST, **CUDA, shape=(65536, 512)),
    goal(Bar(LIMIT, 0.9), **CUDA, shape=(65536, 512), part="backward"),
    goal(Bar(EAGER, 5), Bar(COMPILED, 1.2), **CUDA, shape=(65536, 512), part=BOTH),
    goal(Bar(LIMIT, 0.8), Bar(COMPILED, 1), **CUDA, **BFLOAT16, shape=(65536, 512)),
    goal(Bar(LIMIT, 0.8), **CUDA, **BFLOAT16, shape=(65536, 512), part="backward"),
    goal(Bar(EAGER, 5), Bar(COMPILED, 1.2), **CUDA, **BFLOAT16, shape=(65536, 512), part=BOTH),
    goal(Bar(COMPILED, 1), **CUDA, shape=(8192, 512)),
    goal(Bar(EAGER, 1), Bar(COMPILED, 1), **CUDA, shape=(128, 20)),
    goal(Bar(EAGER, 1), Bar(COMPILED, 1), **CUDA, shape=(128, 20), captured=True),
    goal(Bar(EAGER, 1), Bar(COMPILED, 1.2), **CUDA, shape=(128, 20), part=BOTH, captured=True),
    goal(operator="noise", shape=(2**13, 2**13), device="cuda"),
    goal(Bar(COMPILED, 1.2), **CUDA, shape=(65536, 512), variant="prior", part=BOTH),
    goal(Bar(COMPILED, 1.2), **CUDA, shape=(65536, 512), variant="both", part=BOTH),
)


@pytest.mark.parametrize("each", GOALS, ids=str)
def test_gaussian_rsample_kl(each: Any, benchmark: Any) -> None:
    check_and_benchmark(each, benchmark)


if __name__ == "__main__":
    sys.exit(main("gaussian_rsample_kl", GOALS, Path(__file__).parent / "results"))
