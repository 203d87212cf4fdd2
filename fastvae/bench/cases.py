"""Build benchmark cases: the calls of an operator and of its baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from fastvae import ops
from fastvae.bench.harness import COMPILED, EAGER, LIMIT, OURS, Call, Case
from fastvae.bench.problems import OPERATORS, Function, Operator, count_bytes, normal

Part = Literal["forward", "backward", "forward+backward"]
REFERENCE = "reference"
NOISE = "noise"


def build_case(
    operator: str,
    part: str = "forward",
    shape: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    variant: str | None = None,
    with_compiled: bool = False,
    with_reference: bool = False,
    with_float32: bool = False,
    captured: bool = False,
) -> Case:
    """Build a case of an operator.

    Args:
        operator: one of ``OPERATORS``, or ``"noise"`` for standard normals written to an existing tensor.
        part: "forward" (without autograd), "backward" (only) or "forward+backward".
        shape: size of each of the operator's axes; the operator's default if None.
        dtype: type of the inputs.
        device: device of the inputs.
        variant: one of the operator's variants; the first if None.
        with_compiled: include the eager expression under torch.compile, which takes seconds to compile.
        with_reference: include our reference in plain PyTorch (forward only).
        with_float32: include our operator on float32 inputs.
        captured: capture the calls as CUDA graphs, which excludes the launch overhead of small shapes.

    Raises:
        ValueError: an unknown operator, part or variant, or a wrong number of axes; the message lists the known ones.
    """
    device = torch.device(device)
    if operator == NOISE:
        return _noise_case(shape or (2**12, 2**12), device)
    known = _known(operator, part, shape, variant)
    shape, variant = shape or known.default_shape, known.variants[0] if variant is None else variant
    problem = known.build(shape, dtype, device, variant)
    functions = {OURS: problem.ours, EAGER: problem.eager}
    if with_compiled:
        torch.compiler.reset()
        functions[COMPILED] = torch.compile(problem.eager, dynamic=False)
    calls = {name: _call(function, problem.inputs, part) for name, function in functions.items()}
    if with_reference and part == "forward":
        calls[REFERENCE] = _call(problem.reference, problem.inputs, part)
    if with_float32:
        wide = replace(problem, inputs=tuple(tensor.float() for tensor in problem.inputs))
        calls[f"{OURS} float32"] = _call(wide.ours, wide.inputs, part)
    calls[LIMIT], limit_bytes = _limit(shape, dtype, device)
    if captured:
        calls = {name: _captured(call) for name, call in calls.items()}
    num_bytes = {"forward": problem.forward_bytes, "backward": problem.backward_bytes}
    num_bytes["forward+backward"] = problem.forward_bytes + problem.backward_bytes
    return Case(
        operator=operator,
        part=part,
        shape=shape,
        dtype=dtype,
        device=device,
        variant=" ".join(filter(None, (variant, "captured" if captured else ""))),
        calls=calls,
        elements=problem.elements,
        num_bytes=num_bytes[part],
        equal=problem.equal_outputs if part == "forward" else problem.equal_gradients,
        limit_bytes=limit_bytes,
    )


def _known(operator: str, part: str, shape: tuple[int, ...] | None, variant: str | None) -> Operator:
    if operator not in OPERATORS:
        raise ValueError(f"bench: operator must be one of {', '.join(OPERATORS)} or noise, got {operator!r}")
    found = OPERATORS[operator]
    if part not in get_args(Part):
        raise ValueError(f"bench: part must be one of {', '.join(get_args(Part))}, got {part!r}")
    if variant is not None and variant not in found.variants:
        known = ", ".join(repr(name) for name in found.variants)
        raise ValueError(f"bench: {operator}'s variant must be one of {known}, got {variant!r}")
    if shape is not None and (len(shape) != len(found.axes.split()) or min(shape) < 1):
        raise ValueError(f"bench: {operator}'s shape must be {found.axes}, each at least 1, got {list(shape)}")
    return found


def _noise_case(shape: tuple[int, ...], device: torch.device) -> Case:
    rows, columns = shape
    noise, key = torch.empty(shape, device=device), ops.noise_key(0, device=device)
    generator = torch.Generator(device)
    limit, limit_bytes = _limit(shape, torch.float32, device)
    return Case(
        operator=NOISE,
        part="forward",
        shape=shape,
        dtype=torch.float32,
        device=device,
        calls={
            OURS: lambda: (ops.philox_normal(key, rows, columns, out=noise),),
            EAGER: lambda: (noise.normal_(generator=generator),),
            LIMIT: limit,
        },
        elements=noise.numel(),
        num_bytes=count_bytes(noise),
        limit_bytes=limit_bytes,
    )


def _call(function: Function, inputs: tuple[Tensor, ...], part: str) -> Call:
    """A function without arguments that runs the given part."""
    if part == "forward":
        return partial(_forward, function, inputs)
    leaves = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    grads = tuple(torch.full_like(output, 0.5) for output in function(*leaves))
    if part == "backward":
        outputs = function(*leaves)
        return lambda: torch.autograd.grad(outputs, leaves, grads, retain_graph=True)
    return lambda: torch.autograd.grad(function(*leaves), leaves, grads)


@torch.no_grad()
def _forward(function: Function, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return function(*inputs)


def _captured(call: Call) -> Call:
    """The call captured as a CUDA graph, which launches all of its kernels at once."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return results

    return replay


def _limit(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Call, int]:
    """On CUDA a copy from device to device; on the CPU an addition, with the fused forward pass's memory traffic."""
    tensors = [normal(shape, dtype, device, seed) for seed in (5, 6)]
    out = torch.empty_like(tensors[0])
    if device.type == "cuda":
        return lambda: (out.copy_(tensors[0]),), count_bytes(out, tensors[0])
    return lambda: (torch.add(tensors[0], tensors[1], out=out),), count_bytes(out, *tensors)
