"""The definition of an operator: one schema, the reference as its kernel for every device, a fake kernel, autograd.

The native library adds its CPU and CUDA kernels under the same names, and the dispatcher prefers them: no operator
selects a backend itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastvae.ops._transforms import (
    FindRows,
    Mapped,
    below_autograd,
    make_transformed,
    make_transformed_backward,
    rows_of_backward,
)

NAMESPACE = "fastvae"
LIBRARY = torch.library.Library(NAMESPACE, "DEF")
_operators: list[str] = []
_references: dict[Any, Callable[..., Any]] = {}


def define(schema: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Define an operator with the kernel that serves every device, and return its overload."""
    name = LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
    _operators.append(name)
    op = getattr(getattr(torch.ops, NAMESPACE), name).default
    _references[op] = reference
    return op


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Every operator in plain PyTorch, for ``ExportedProgram.run_decompositions``: the result needs no fastvae."""
    return dict(_references)


def define_backward(schema: str, reference: Callable[..., Any], *inputs: str) -> Any:
    """Define a backward operator that returns one gradient for each argument at ``positions``, of its shape and dtype.

    With several positions, the operator's last arguments state in the same order which gradients are needed; the
    others are returned empty.
    """
    return define(schema, reference, _gradients_like(schema, inputs))


def _gradients_like(schema: str, inputs: tuple[str, ...]) -> Callable[..., Any]:
    names = [argument.name for argument in torch._C.parse_schema(f"{NAMESPACE}::{schema}").arguments]
    positions = [names.index(name) for name in inputs]

    def fake(*args: Any) -> Any:
        needs = args[-len(positions) :] if len(positions) > 1 else (True,)
        # A prior that is None needs no gradient; the empty tensor in its place has the first input's dtype.
        likes = [args[positions[0]] if args[position] is None else args[position] for position in positions]
        gradients = tuple(x.new_empty(x.shape if need else 0) for x, need in zip(likes, needs, strict=True))
        return gradients if len(positions) > 1 else gradients[0]

    return fake


def operators() -> tuple[str, ...]:
    """The names of all operators in ``torch.ops.fastvae``."""
    return tuple(_operators)


@dataclass(frozen=True, kw_only=True)
class Functions:
    """The two forms of an operator's autograd.Function."""

    plain: type[torch.autograd.Function]
    """Keeps its context in the forward, which is faster."""
    transformed: type[torch.autograd.Function]
    """The form that `torch.func` can transform; used while a transform is active."""

    def apply(self, *args: Any) -> Any:
        return (self.transformed if is_transformed() else self.plain).apply(*args)


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, or a forward-mode derivative, is active."""
    return bool(torch._C._are_functorch_transforms_active()) or torch.autograd.forward_ad._current_level >= 0


def call(op: Any, functions: Functions, args: tuple[Any, ...], needs_grad: bool) -> Any:
    """Call an operator by the shortest path; its full dispatch takes twice as long on small tensors."""
    if torch.compiler.is_compiling():
        return op(*args)
    if is_transformed():
        return functions.transformed.apply(*args)
    if needs_grad and torch.is_grad_enabled():
        return functions.plain.apply(*args)
    with below_autograd():
        return op(*args)


def variation(data: Tensor) -> Tensor | None:
    """Zeros of the data's shape whose derivative by the data is 1; None if no derivative by the data is required.

    The likelihood operators have no gradient by their data. Adding these zeros to an argument, where the function
    depends on the data in the same way as on it, gives the data their derivatives and leaves every value as it is.
    """
    wanted = (data.requires_grad and torch.is_grad_enabled()) or is_transformed()
    return data - data.detach() if wanted and data.is_floating_point() else None


def register_autograd(
    forward: Any,
    backward: Any,
    formula: Callable[..., Any],
    *,
    differentiable: tuple[int, ...],
    find_rows: FindRows,
    kept_outputs: int = 0,
) -> Functions:
    """Make ``backward`` the gradient of ``forward``, and return the functions for ``call``.

    The schemas correspond: ``forward`` takes tensors first, then numbers; ``backward`` takes the outputs' gradients,
    those tensors, the kept outputs, those numbers, and, with several differentiable inputs, whether each needs its
    gradient.

    Args:
        forward: The operator.
        backward: Its backward operator.
        formula: The backward operator in plain PyTorch, from which double backward is derived.
        differentiable: Positions of the inputs that have gradients.
        find_rows: Returns the dimensions of the rows in the forward's arguments, for vmap.
        kept_outputs: Number of the forward's last outputs that have no gradient and are kept for the backward.
    """
    arguments = forward._schema.arguments
    tensors = sum("Tensor" in str(argument.type) for argument in arguments)
    gradients = len(forward._schema.returns) - kept_outputs
    choice = len(differentiable) > 1
    key = next((i for i, argument in enumerate(arguments) if argument.name == "key"), None)
    mapped = Mapped(gradients=0, key=key, find_rows=find_rows)
    mapped_backward = Mapped(
        gradients=gradients,
        key=None if key is None else gradients + key,
        find_rows=rows_of_backward(find_rows, tensors, gradients, kept_outputs, differentiable),
    )
    backward_functions = _register_double_backward(backward, formula, mapped_backward)
    transformed = make_transformed(
        forward,
        formula,
        backward_functions.transformed,
        mapped,
        differentiable=differentiable,
        tensors=tensors,
        gradients=gradients,
    )

    class Operator(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            with below_autograd():
                outputs = forward(*args)
            kept = outputs[gradients:] if kept_outputs else ()
            ctx.mark_non_differentiable(*kept)
            ctx.save_for_backward(*args[:tensors], *kept)
            ctx.numbers = args[tensors:]
            ctx.set_materialize_grads(False)
            return outputs

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            results: list[Tensor | None] = [None] * (tensors + len(ctx.numbers))
            if all(grad is None for grad in grads):
                return tuple(results)
            needs = [ctx.needs_input_grad[i] for i in differentiable]
            args = (*grads[:gradients], *ctx.saved_tensors, *ctx.numbers, *(needs if choice else ()))
            found = call(backward, backward_functions, args, needs_grad=True)
            for i, need, gradient in zip(differentiable, needs, found if choice else (found,), strict=True):
                results[i] = gradient if need else None
            return tuple(results)

    return _register(forward, Functions(plain=Operator, transformed=transformed), mapped)


def _register(op: Any, functions: Functions, mapped: Mapped) -> Functions:
    LIBRARY.impl(op, functions.apply, "Autograd")
    register_mapped(op, mapped)
    return functions


def register_mapped(op: Any, mapped: Mapped) -> None:
    """Give an operator its rule for vmap, for calls that do not go through its autograd.Function."""
    torch.library.register_vmap(
        op, lambda info, in_dims, *args: mapped(op, info.batch_size, in_dims, args), lib=LIBRARY
    )


def _register_double_backward(op: Any, formula: Callable[..., Any], mapped: Mapped) -> Functions:
    """Differentiate a backward operator by its formula: autograd computes all further derivatives in plain PyTorch."""

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

    return _register(
        op, Functions(plain=BackwardOperator, transformed=make_transformed_backward(op, formula, mapped)), mapped
    )


def _vector_jacobian(
    formula: Callable[..., Any], args: list[Any], needed: tuple[bool, ...], cotangents: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # New aliases: one input may depend on another earlier in the graph, which this formula must not count.
        args = [arg.view_as(arg) if need else arg for arg, need in zip(args, needed, strict=True)]
        outputs = formula(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None and o.requires_grad]
        if not pairs:
            return (None,) * len(args)
        inputs = [arg for arg, need in zip(args, needed, strict=True) if need]
        ends, weights = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(ends, inputs, weights, create_graph=create_graph, allow_unused=True))
    return tuple(next(found) if need else None for need in needed)
