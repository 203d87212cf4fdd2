"""The operators under `torch.func`: grad, vjp, jvp, vmap and their combinations, bit-equal to the plain call.

The noise under vmap: a function of B rows, mapped over N examples, is a call with N * B rows. Example i draws the
noise of the rows first_row + i * B to first_row + i * B + B - 1, so that ``vmap(f)(x)`` equals ``f(x.flatten(0, 1))``
bit for bit; nested maps extend this, the outer index being the slowest. If the keys are mapped too, each example
uses its own key, and its rows are not shifted. A backward operator draws the noise of its forward: if only gradients
are mapped (jacrev), all of them use the same noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Calls under this guard skip the operator's autograd kernel: for use inside the autograd.Function that implements it.
below_autograd = torch._C._AutoDispatchBelowAutograd


@dataclass(frozen=True, kw_only=True)
class RowDims:
    """The dimensions of the rows, B, in an operator's tensors, so that one call can serve many examples."""

    arguments: dict[int, int]
    """The dimension of the rows, by the argument's position; a tensor that is not here belongs to all rows."""
    outputs: tuple[int, ...]
    """The dimension of the rows in each output."""


FindRows = Callable[[tuple[Any, ...]], RowDims | None]
"""Of the arguments of one example; None where rows are summed, so that examples must be computed one by one."""


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """Maps an operator over examples: in one call if the bits are the same, otherwise one by one."""

    gradients: int
    """How many of the first arguments are gradients of outputs; the next one is a tensor ``[B, ...]``."""
    key: int | None
    """The position of the noise key, if the operator draws noise."""
    find_rows: FindRows

    def __call__(
        self, run: Callable[..., Any], num_examples: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]
    ) -> Any:
        """Call ``run`` on mapped arguments; returns its outputs, and the dimension of the examples in each."""
        mapped = [d is not None for d in in_dims]
        args = tuple(x if d is None else x.movedim(d, 0) for x, d in zip(args, in_dims, strict=True))
        own_rows = any(mapped[self.gradients :]) and not (self.key is not None and mapped[self.key])
        one = tuple(_first(x) if m else x for x, m in zip(args, mapped, strict=True))
        if num_examples == 0:
            return _stacked([run(*one)], slice(0, 0))
        rows = self.find_rows(one) if own_rows else None
        if rows is not None and all(i in rows.arguments for i, m in enumerate(mapped) if m):
            return _in_one_call(run, num_examples, mapped, args, rows)
        results = []
        for i in range(num_examples):
            example = [x[i] if m else x for x, m in zip(args, mapped, strict=True)]
            if own_rows and self.key is not None:
                example[self.key] = _advanced(example[self.key], i * one[self.gradients].shape[0])
            results.append(run(*example))
        return _stacked(results, slice(None))


def _first(x: Tensor) -> Tensor:
    return x[0] if x.shape[0] else x.new_zeros(x.shape[1:])


def _advanced(key: Tensor, rows: int) -> Tensor:
    """The key with its first row increased by a number of rows."""
    return torch.stack((key[0], key[1], key[2] + rows))


def _stacked(results: list[Any], examples: slice) -> Any:
    if isinstance(results[0], Tensor):
        return torch.stack(results)[examples], 0
    outputs = tuple(torch.stack(parts)[examples] for parts in zip(*results, strict=True))
    return outputs, (0,) * len(outputs)


def _in_one_call(
    run: Callable[..., Any], num_examples: int, mapped: list[bool], args: tuple[Any, ...], rows: RowDims
) -> Any:
    merged = list(args)
    for i, dim in rows.arguments.items():
        x = args[i]
        if x is not None:
            x = x if mapped[i] else x.expand(num_examples, *x.shape)
            merged[i] = x.movedim(0, dim).flatten(dim, dim + 1)
    found = run(*merged)
    outputs, dims = [], []
    for x, dim in zip((found,) if isinstance(found, Tensor) else found, rows.outputs, strict=True):
        is_left_out = x.shape == (0,)  # a gradient that is not needed
        outputs.append(x.expand(num_examples, 0) if is_left_out else x.unflatten(dim, (num_examples, -1)))
        dims.append(0 if is_left_out else dim)
    return (outputs[0], dims[0]) if isinstance(found, Tensor) else (tuple(outputs), tuple(dims))


def rows_of_backward(
    find_rows: FindRows, tensors: int, gradients: int, kept: int, differentiable: tuple[int, ...]
) -> FindRows:
    """The rows of a backward operator, whose arguments ``register_autograd`` describes, from its forward's."""

    def find(args: tuple[Any, ...]) -> RowDims | None:
        inputs, rest = args[gradients : gradients + tensors], args[gradients + tensors + kept :]
        needs = rest[-len(differentiable) :] if len(differentiable) > 1 else (True,)
        rows = find_rows((*inputs, *rest))
        if rows is None or any(need and i not in rows.arguments for i, need in zip(differentiable, needs, strict=True)):
            return None
        dims = dict(enumerate(rows.outputs[:gradients]))
        dims |= {gradients + i: dim for i, dim in rows.arguments.items()}
        dims |= {gradients + tensors + i: dim for i, dim in enumerate(rows.outputs[gradients:])}
        return RowDims(arguments=dims, outputs=tuple(rows.arguments.get(i, 0) for i in differentiable))

    return find


def make_transformed(
    forward: Any,
    formula: Callable[..., Any],
    backward_function: type[torch.autograd.Function],
    mapped: Mapped,
    *,
    differentiable: tuple[int, ...],
    tensors: int,
    gradients: int,
) -> type[torch.autograd.Function]:
    """Make the autograd.Function that `torch.func` can transform; for the arguments see ``register_autograd``."""
    choice = len(differentiable) > 1

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            with below_autograd():
                return forward(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            kept = output[gradients:] if isinstance(output, tuple) else ()
            ctx.mark_non_differentiable(*kept)
            ctx.save_for_backward(*inputs[:tensors], *kept)
            ctx.save_for_forward(*inputs[:tensors], *kept)
            ctx.numbers = inputs[tensors:]
            ctx.like = [(x.shape, x.dtype, x.device) for x in (output if isinstance(output, tuple) else (output,))]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            results: list[Tensor | None] = [None] * (tensors + len(ctx.numbers))
            if all(grad is None for grad in grads):
                return tuple(results)
            needs = [ctx.needs_input_grad[i] for i in differentiable]
            args = (*grads[:gradients], *ctx.saved_tensors, *ctx.numbers, *(needs if choice else ()))
            found = backward_function.apply(*args)
            for i, need, gradient in zip(differentiable, needs, found if choice else (found,), strict=True):
                results[i] = gradient if need else None
            return tuple(results)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
            """J t as the gradient by u of the backward (u J) t, which is linear in u."""
            given = [tangents[i] for i in differentiable]
            needs = [t is not None for t in given]
            saved = ctx.saved_tensors

            def gradients_by_inputs(*u: Tensor) -> tuple[Tensor, ...]:
                found = formula(*u, *saved, *ctx.numbers, *(needs if choice else ()))
                return tuple(g for g, need in zip(found if choice else (found,), needs, strict=True) if need)

            zeros = [torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.like[:gradients]]
            found, pull = torch.func.vjp(gradients_by_inputs, *zeros)[:2]
            moved = pull(tuple(t.to(g.dtype) for t, g in zip((t for t in given if t is not None), found, strict=True)))
            results = (*moved, *(None,) * (len(ctx.like) - gradients))
            return results if len(results) > 1 else results[0]

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
            return mapped(Transformed.apply, info.batch_size, in_dims, args)

    return Transformed


def make_transformed_backward(op: Any, formula: Callable[..., Any], mapped: Mapped) -> type[torch.autograd.Function]:
    """Like ``make_transformed``, for a backward operator; its derivatives are those of its formula."""

    class TransformedBackward(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            with below_autograd():
                return op(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            tensors = [x if isinstance(x, Tensor) else None for x in inputs]
            ctx.save_for_backward(*tensors)
            ctx.save_for_forward(*tensors)
            ctx.constants = [None if isinstance(x, Tensor) else x for x in inputs]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
            by, primals = _as_function_of(formula, ctx, [i for i, need in enumerate(ctx.needs_input_grad) if need])
            outputs, pull = torch.func.vjp(by, *primals)[:2]
            weights = tuple(torch.zeros_like(o) if c is None else c for o, c in zip(outputs, cotangents, strict=True))
            found = iter(pull(weights))
            return tuple(next(found) if need else None for need in ctx.needs_input_grad)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
            by, primals = _as_function_of(formula, ctx, [i for i, t in enumerate(tangents) if t is not None])
            moved = torch.func.jvp(by, primals, tuple(t for t in tangents if t is not None))[1]
            return moved if len(moved) > 1 else moved[0]

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
            return mapped(TransformedBackward.apply, info.batch_size, in_dims, args)

    return TransformedBackward


def _as_function_of(formula: Callable[..., Any], ctx: Any, places: list[int]) -> tuple[Any, tuple[Tensor, ...]]:
    """The formula as a function of some of its arguments, which returns a tuple; and those arguments."""
    args = [c if t is None else t for c, t in zip(ctx.constants, ctx.saved_tensors, strict=True)]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        replaced = list(args)
        for place, value in zip(places, values, strict=True):
            replaced[place] = value
        found = formula(*replaced)
        return found if isinstance(found, tuple) else (found,)

    return function, tuple(args[place] for place in places)
