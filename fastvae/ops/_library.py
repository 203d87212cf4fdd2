"""How an operator is made: one schema, the reference as its kernel for every device, a fake kernel, autograd.

The native library adds its CPU and CUDA kernels under the same names, and the dispatcher prefers them: no operator
asks which backend runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "fastvae"
LIBRARY = torch.library.Library(NAMESPACE, "DEF")

_operators: list[str] = []

# Calls under this guard skip the operator's own autograd kernel: for the inside of the autograd.Function that is it.
below_autograd = torch._C._AutoDispatchBelowAutograd


def define(schema: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Define an operator of the library, with the kernel that every device has, and return its overload to call."""
    name = LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
    _operators.append(name)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def operators() -> tuple[str, ...]:
    """The names of all operators, as ``torch.ops.fastvae`` has them."""
    return tuple(_operators)


def set_autograd(op: Any, function: type[torch.autograd.Function]) -> None:
    """Make ``function``, whose forward calls ``op`` under ``below_autograd``, the operator's autograd kernel."""
    LIBRARY.impl(op, function.apply, "Autograd")


def call(op: Any, function: type[torch.autograd.Function], args: tuple[Any, ...], needs_grad: bool) -> Any:
    """Call an operator by the shortest way; what its own dispatch would do takes twice as long on small tensors."""
    if torch.compiler.is_compiling():
        return op(*args)
    if needs_grad and torch.is_grad_enabled():
        return function.apply(*args)
    with below_autograd():
        return op(*args)


def differentiable(op: Any, formula: Callable[..., Any]) -> type[torch.autograd.Function]:
    """An autograd.Function that calls a backward operator, and differentiates it as the formula in plain PyTorch.

    So a double backward, and every further one, is autograd's own work on the reference.
    """

    class BackwardOperator(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            ctx.save_for_backward(*(arg if isinstance(arg, Tensor) else None for arg in args))
            ctx.constants = [None if isinstance(arg, Tensor) else arg for arg in args]
            ctx.set_materialize_grads(False)
            with below_autograd():
                return op(*args)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
            args = [c if t is None else t for c, t in zip(ctx.constants, ctx.saved_tensors, strict=True)]
            return _vector_jacobian(formula, args, ctx.needs_input_grad, cotangents)

    BackwardOperator.__name__ = f"{op._schema.name}_autograd"
    set_autograd(op, BackwardOperator)
    return BackwardOperator


def _vector_jacobian(
    formula: Callable[..., Any], args: list[Any], needed: tuple[bool, ...], cotangents: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Fresh aliases: one input may depend on another further up, and that path is not this formula's to count.
        args = [arg.view_as(arg) if need else arg for arg, need in zip(args, needed, strict=True)]
        outputs = formula(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None and o.requires_grad]
        inputs = [arg for arg, need in zip(args, needed, strict=True) if need]
        if not pairs:
            return (None,) * len(args)
        ends, weights = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(ends, inputs, weights, create_graph=create_graph, allow_unused=True))
    return tuple(next(found) if need else None for need in needed)
