"""Properties of every negative log likelihood, inherited by a test class of each operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.ops.cases import DTYPES, normal, threads


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of an operator, ``nll(*parameters, target, mask)``; the parameters, output first, have gradients."""

    nll: Callable[..., Tensor]
    parameters: tuple[Tensor, ...]
    target: Tensor

    def __call__(self, *parameters: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.nll(*(parameters or self.parameters), self.target, mask)

    def leaves(self) -> list[Tensor]:
        return [p.clone().requires_grad_() for p in self.parameters]


def bits(case: Case, mask: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return the value and every gradient."""
    leaves = case.leaves()
    nll = case(*leaves, mask=mask)
    return nll.detach(), *torch.autograd.grad(nll.square().sum(), leaves)


def equal(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class LikelihoodProperties:
    """A subclass defines how to build a case and how to select some of its rows."""

    operator: str
    has_mask = True

    def case(
        self,
        batch: int = 5,
        event: tuple[int, ...] = (7,),
        dtype: torch.dtype = torch.float32,
        samples: int | None = None,
    ) -> Case:
        raise NotImplementedError

    def output_shape(self, batch: int, event: tuple[int, ...], samples: int | None) -> tuple[int, ...]:
        return (batch, *event) if samples is None else (samples, batch, *event)

    def mask(self, case: Case) -> Tensor:
        return normal(*case.target.shape, seed=99) > -0.5

    def rows(self, case: Case, start: int, stop: int) -> Case:
        full = case.parameters[0].shape
        parameters = tuple(p[start:stop] if p.shape == full else p for p in case.parameters)
        return Case(nll=case.nll, parameters=parameters, target=case.target[start:stop])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_result_is_at_least_float32(self, dtype: torch.dtype) -> None:
        case = self.case(dtype=dtype)
        value, *gradients = bits(case)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert [g.dtype for g in gradients] == [p.dtype for p in case.parameters]
        assert [g.shape for g in gradients] == [p.shape for p in case.parameters]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, dtype: torch.dtype) -> None:
        case = self.case(dtype=dtype, event=(501,))
        wide = Case(nll=case.nll, parameters=tuple(p.float() for p in case.parameters), target=case.target)
        assert torch.equal(case(), wide())

    @pytest.mark.parametrize("columns", [1, 7, 784])
    def test_bits_do_not_depend_on_the_batch_split(self, columns: int) -> None:
        case = self.case(batch=37, event=(columns,))
        whole = bits(case)
        parts = [bits(self.rows(case, a, b)) for a, b in ((0, 1), (1, 18), (18, 37))]
        assert torch.equal(torch.cat([p[0] for p in parts]), whole[0])
        assert torch.equal(torch.cat([p[1] for p in parts]), whole[1])  # the gradient of the output

    def test_bits_do_not_depend_on_threads_or_repetition(self) -> None:
        case = self.case(batch=130, event=(611,))
        with threads(1):
            one = bits(case)
        for count in (2, 5):
            with threads(count):
                assert equal(bits(case), one)
        small = self.case()
        first = bits(small)
        assert all(equal(bits(small), first) for _ in range(100))

    def test_each_importance_sample_is_scored_independently(self) -> None:
        case = self.case(samples=3, event=(2, 9))
        nll = case()
        assert nll.shape == (3, 5)
        full = case.parameters[0].shape
        for k in range(3):
            alone = [p[k] if p.shape == full else p for p in case.parameters]
            assert torch.equal(case(*alone), nll[k])

    @pytest.mark.parametrize("samples", [None, 2])
    @pytest.mark.parametrize("masked", [False, True])
    def test_first_and_second_derivatives(self, samples: int | None, masked: bool) -> None:
        if masked and not self.has_mask:
            return
        case = self.case(batch=3, event=(4,), dtype=torch.float64, samples=samples)
        mask = self.mask(case) if masked else None
        for chosen in range(2 ** len(case.parameters) - 1):  # every combination of required gradients
            leaves = case.leaves()
            for i, leaf in enumerate(leaves):
                leaf.requires_grad_(not chosen >> i & 1)
            assert torch.autograd.gradcheck(lambda *p: case(*p, mask=mask), leaves)
            assert torch.autograd.gradgradcheck(lambda *p: case(*p, mask=mask), leaves)

    def test_only_tensors_that_require_gradients_get_them(self) -> None:
        case = self.case()
        for i in range(len(case.parameters)):
            leaves = [p.clone().requires_grad_(j == i) for j, p in enumerate(case.parameters)]
            case(*leaves).sum().backward()
            assert [leaf.grad is not None for leaf in leaves] == [j == i for j in range(len(leaves))]

    def test_masked_values_are_ignored_even_if_they_are_nan(self) -> None:
        if not self.has_mask:
            return
        case = self.case(samples=2)
        mask = self.mask(case)
        clean = bits(case, mask)
        output = case.parameters[0].clone()
        output[:, ~mask] = math.nan
        spoilt = Case(nll=case.nll, parameters=(output, *case.parameters[1:]), target=case.target)
        assert equal(bits(spoilt, mask), clean)
        assert (clean[1][:, ~mask] == 0).all()
        assert equal(bits(case, mask.to(torch.float32)), clean)
        assert equal(bits(case, torch.ones_like(mask)), bits(case))
        assert (case(mask=torch.zeros_like(mask)) == 0).all()

    def test_nan_affects_its_row_only(self) -> None:
        case = self.case()
        output = case.parameters[0].clone()
        output[2, 3] = math.nan
        nll = case(output, *case.parameters[1:])
        others = [0, 1, 3, 4]
        assert torch.equal(nll[others], case()[others])
        assert nll[2].isnan()

    def test_strides_do_not_matter(self) -> None:
        case = self.case(event=(12,))
        expected = bits(case)
        turned = [p.t().contiguous().t() if p.dim() == 2 else p for p in case.parameters]
        target = torch.stack((case.target, case.target), dim=-1)[..., 0]
        leaves = [p.requires_grad_() for p in turned]
        nll = case.nll(*leaves, target, None)
        assert equal((nll.detach(), *torch.autograd.grad(nll.square().sum(), leaves)), expected)

    @pytest.mark.parametrize(("batch", "event", "samples"), [(0, (7,), None), (0, (7,), 2), (3, (7,), 0)])
    def test_empty(self, batch: int, event: tuple[int, ...], samples: int | None) -> None:
        value, *gradients = bits(self.case(batch=batch, event=event, samples=samples))
        assert value.shape == ((batch,) if samples is None else (samples, batch))
        assert (torch.cat([g.flatten() for g in gradients]) == 0).all()

    def test_opcheck(self) -> None:
        case = self.case(samples=2)
        leaves = case.leaves()
        calls: list[tuple] = []

        class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                if func.namespace == "fastvae":
                    calls.append((func, args))
                return func(*args, **(kwargs or {}))

        with Recorder():
            case(*leaves, mask=self.mask(case) if self.has_mask else None).sum().backward()
        assert [str(func) for func, _ in calls] == [f"fastvae.{self.operator}{s}.default" for s in ("", "_backward")]
        for func, args in calls:
            fresh = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
            shapes = [p.shape for p in case.parameters]  # with samples, the data have another shape
            for i, arg in enumerate(fresh):  # the first is the output, in the backward pass the incoming gradient
                if isinstance(arg, Tensor) and arg.is_floating_point() and (i == 0 or arg.shape in shapes):
                    arg.requires_grad_()
            torch.library.opcheck(func, tuple(fresh))

    def test_compiles_without_a_graph_break(self) -> None:
        case = self.case()
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda *p: case.nll(*p, case.target, None).square(), fullgraph=True, backend="aot_eager"
        )
        leaves = case.leaves()
        gradients = torch.autograd.grad(compiled(*leaves).sum(), leaves)
        assert equal(gradients, bits(case)[1:])

    def test_invalid_input_is_refused(self) -> None:
        case = self.case()
        output, *rest = case.parameters
        names = self.names()
        with pytest.raises(
            ValueError, match=rf"^{self.operator}: {names[0]} must have {names[1]}'s shape \[5, 7\], or "
        ):
            case.nll(output[:, :6], *rest, case.target, None)
        with pytest.raises(
            TypeError, match=rf"^{self.operator}: {names[0]} must be float32, bfloat16, float16 or float64"
        ):
            case.nll(output.long(), *rest, case.target, None)
        with pytest.raises(TypeError, match=rf"^{self.operator}: {names[1]} must be a Tensor, got list$"):
            case.nll(output, *rest, [1.0], None)
        with pytest.raises(
            ValueError, match=rf"^{self.operator}: {names[1]} must be on {names[0]}'s device cpu, got meta"
        ):
            case.nll(output, *rest, case.target.to("meta"), None)
        if self.has_mask:
            with pytest.raises(
                ValueError, match=rf"^{self.operator}: mask must have target's shape \[5, 7\], got \[7\]"
            ):
                case.nll(output, *rest, case.target, torch.ones(7))

    def names(self) -> tuple[str, str]:
        raise NotImplementedError
