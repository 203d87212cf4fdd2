"""Calls for CUDA's tools, part of run_gpu.sh: small odd shapes for compute-sanitizer, and six large kernels for ncu."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gpu_cases
import torch
from gpu_rows import FAILED, OK, record_check

from fastvae import ops
from fastvae.bench import OPERATORS, OURS

SHAPES = {2: [(37, 131), (300, 20), (3, 5), (1, 1)], 3: [(4, 37, 33), (3, 5, 7), (2, 9, 130), (1, 1, 1)]}
LARGER = {"gaussian_rsample_kl": (2, 4099), "multinomial_nll": (3, 5003)}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def small_cases() -> Iterator[tuple[str, str, tuple[int, ...], torch.dtype]]:
    """All operators and variants in all dtypes, with varying shapes: 58 cases."""
    for turn, dtype in enumerate(DTYPES):
        for position, (operator, known) in enumerate(OPERATORS.items()):
            shapes = SHAPES[len(known.axes.split())]
            for offset, variant in enumerate(known.variants):
                yield operator, variant, shapes[(turn + position + offset) % len(shapes)], dtype
    for operator, shape in LARGER.items():
        yield operator, OPERATORS[operator].variants[0], shape, torch.float32


def check_memory(device: str, seconds: float, results: Path) -> bool:
    """Run the small cases forward and backward under compute-sanitizer, which runs this process."""
    cases, end, done = list(small_cases()), time.monotonic() + seconds, 0
    call_noise(device)
    for operator, variant, shape, dtype in cases:
        if time.monotonic() > end:
            break
        print("memcheck:", operator, variant, shape, dtype, flush=True)  # printed first, in case the call crashes
        problem = OPERATORS[operator].build(shape, dtype, torch.device(device), variant)
        leaves = [tensor.detach().requires_grad_() for tensor in problem.inputs]
        outputs = problem.ours(*leaves)
        torch.autograd.grad(outputs, leaves, [torch.full_like(output, 0.5) for output in outputs])
        synchronize(device)
        done += 1
    return record_check(results, "memcheck", "cases run", OK if done else FAILED, f"{done} of {len(cases)} cases")


def call_noise(device: str) -> None:
    """Call the noise operators."""
    key = ops.noise_key(3, device=device)
    for shape in SHAPES[2][:2]:
        print("memcheck: noise", shape, flush=True)
        ops.philox_normal(key, *shape, out=torch.empty(shape, device=device))
        ops.philox_uniform(key, *shape)
        ops.philox_integers(key, *shape)
        synchronize(device)


def profile(device: str) -> bool:
    """Call each kernel twice and profile the second call."""
    for case in gpu_cases.profiled():
        print("profile:", case, flush=True)
        call = (case if device == "cuda" else case.tiny()).build(device).calls[OURS]
        call()
        synchronize(device)
        if device == "cuda":
            torch.cuda.profiler.start()
        call()
        synchronize(device)
        if device == "cuda":
            torch.cuda.profiler.stop()
    return True


def synchronize(device: str) -> None:
    """Wait for the device, so that an error is raised by the call that caused it."""
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memcheck", "profile"])
    parser.add_argument("--results", type=Path, required=True, help="folder of checks.csv")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=600, help="time after which no new case is started")
    options = parser.parse_args()
    if options.what == "profile":
        return 0 if profile(options.device) else 1
    return 0 if check_memory(options.device, options.seconds, options.results) else 1


if __name__ == "__main__":
    sys.exit(main())
