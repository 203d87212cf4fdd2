"""Call every kernel once or twice on small odd shapes: what run_gpu.sh gives to compute-sanitizer."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from fastvae import ops
from fastvae.bench import OPERATORS, OURS, build_case

SHAPES = {2: [(1, 1), (3, 5), (37, 131), (300, 20)], 3: [(1, 1, 1), (3, 5, 7), (4, 37, 33)]}
LARGER = {"gaussian_rsample_kl": (2, 4099), "multinomial_nll": (3, 5003)}


def calls(device: str) -> Iterator[str]:
    """Run the calls, one operator, variant, shape and dtype after the other, and name each."""
    for operator, known in OPERATORS.items():
        shapes = SHAPES[len(known.axes.split())] + ([LARGER[operator]] if operator in LARGER else [])
        for variant in known.variants:
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                for shape in shapes:
                    case = build_case(operator, "forward+backward", shape, dtype, device, variant=variant)
                    case.calls[OURS]()
                    yield str(case)
    key = ops.noise_key(3, device=device)
    for shape in SHAPES[2]:
        ops.philox_normal(key, *shape, out=torch.empty(shape, device=device))
        ops.philox_uniform(key, *shape)
        ops.philox_integers(key, *shape)
        yield f"noise {shape}"


def main() -> int:
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    count = sum(1 for _ in calls(device))
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"gpu_driver: {count} cases on {device}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
