"""Performance requirements of the operators on a GPU. This module does not import PyTorch, so that tables are quick."""

from __future__ import annotations

FORWARD, BACKWARD, BOTH = "forward", "backward", "forward+backward"
OURS, EAGER, COMPILED, LIMIT = "fastvae", "eager", "compiled", "limit"  # the same names as in fastvae.bench
NOISE = "noise"
# In float32 the smallest of these moves 100 MB in the forward pass; an H200's L2 cache has 60 MB.
SHAPES = {
    "gaussian_rsample_kl": (65536, 512),
    "bernoulli_nll": (65536, 784),
    "gaussian_rsample_log_ratio": (50, 8192, 64),
    "multinomial_nll": (4096, 20000),
    "gaussian_nll": (65536, 784),
    "discretized_logistic_nll": (16384, 3072),
}
EAGER_BARS = {"gaussian_rsample_kl": 5.0, "gaussian_rsample_log_ratio": 5.0, "multinomial_nll": 2.0}


def bars_of(operator: str, part: str, shape: str, dtype: str) -> dict[str, float]:
    """The requirements by call: the smallest fraction of the copy's bandwidth (LIMIT), or the smallest speedup.

    A fraction of the copy's bandwidth is required for the large shapes only.
    """
    if operator not in SHAPES:
        return {}
    compiled = {COMPILED: 1.2 if part == BOTH else 1.0}
    if shape != "x".join(map(str, SHAPES[operator])):
        return {EAGER: 1.0, **compiled}
    copy, eager = {LIMIT: 0.9 if dtype == "float32" else 0.8}, {EAGER: EAGER_BARS.get(operator, 3.0)}
    return {FORWARD: {**copy, **eager, **compiled}, BACKWARD: copy, BOTH: {**eager, **compiled}}[part]
