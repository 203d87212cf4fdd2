from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastvae.ops import bernoulli_nll
from tests.ops.cases import DTYPES, SHAPES, assert_close, normal
from tests.ops.likelihood_properties import Case, LikelihoodProperties


class TestProperties(LikelihoodProperties):
    operator = "bernoulli_nll"

    def case(
        self,
        batch: int = 5,
        event: tuple[int, ...] = (7,),
        dtype: torch.dtype = torch.float32,
        samples: int | None = None,
    ) -> Case:
        logits = 3 * normal(*self.output_shape(batch, event, samples), dtype=dtype)
        target = torch.sigmoid(normal(batch, *event, seed=1)).to(dtype)
        return Case(nll=bernoulli_nll, parameters=(logits,), target=target)

    def names(self) -> tuple[str, str]:
        return "logits", "target"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_binary_cross_entropy(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    logits = (3 * normal(*shape, dtype=dtype)).requires_grad_()
    target = torch.sigmoid(normal(*shape, seed=1, dtype=dtype))
    nll = bernoulli_nll(logits, target)
    truth_logits = logits.detach().double().requires_grad_()
    per_pixel = functional.binary_cross_entropy_with_logits(truth_logits, target.double(), reduction="none")
    truth = per_pixel.flatten(1).sum(1) if len(shape) > 1 else per_pixel
    assert_close(nll, truth.detach(), nll.dtype)
    weights = normal(shape[0], seed=2, dtype=nll.dtype)
    (gradient,) = torch.autograd.grad(nll, logits, weights)
    (true_gradient,) = torch.autograd.grad(truth, truth_logits, weights.double())
    assert_close(gradient, true_gradient, dtype)


def test_the_nll_is_accurate_for_probabilities_that_round_to_1() -> None:
    logits = torch.tensor([-1000.0, -80.0, -20.0, -1e-4, 0.0, 1e-4, 20.0, 80.0, 1000.0])
    for bit in (0.0, 1.0):
        nll = bernoulli_nll(logits, torch.full_like(logits, bit))
        exact = torch.logaddexp(torch.zeros(()).double(), logits.double() * (1 - 2 * bit))
        torch.testing.assert_close(nll.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(4, 9), (3, 1025), (2, 3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
class TestTargets:
    def check(self, target: Tensor, as_float: Tensor, dtype: torch.dtype) -> None:
        logits = [normal(*target.shape, dtype=dtype).requires_grad_() for _ in range(2)]
        values = [bernoulli_nll(lg, t) for lg, t in zip(logits, (target, as_float), strict=True)]
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
        gradients = [torch.autograd.grad(v.sum(), lg)[0] for v, lg in zip(values, logits, strict=True)]
        torch.testing.assert_close(*gradients, rtol=max(tolerance, torch.finfo(dtype).eps), atol=tolerance)

    def test_bool(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        target = normal(*shape, seed=3) > 0
        self.check(target, target.float(), dtype)

    def test_uint8_targets_are_divided_by_255(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        target = (normal(*shape, seed=3) * 80 + 128).clamp(0, 255).to(torch.uint8)
        target.view(-1)[:2] = torch.tensor([0, 255], dtype=torch.uint8)
        self.check(target, target.to(torch.promote_types(dtype, torch.float32)) / 255, dtype)

    def test_float32_targets_with_other_logits(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        target = torch.sigmoid(normal(*shape, seed=3))
        logits = normal(*shape, dtype=dtype)
        expected = bernoulli_nll(logits.double(), target.double())
        nll = bernoulli_nll(logits, target)
        torch.testing.assert_close(nll.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0, 25.0])
def test_the_nll_of_confident_correct_pixels_is_accurate(scale: float) -> None:
    logits = scale * (1 + normal(4, 784).abs())
    exact = torch.log1p(torch.exp(-logits.double())).sum(1)
    for sign, target in ((1, torch.ones(4, 784)), (-1, torch.zeros(4, 784))):
        nll = bernoulli_nll(sign * logits, target).double()
        assert ((nll - exact) / exact).abs().max() < 1e-6


def test_integer_targets_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^bernoulli_nll: target must be floating, bool, or uint8 .*torch.int64"):
        bernoulli_nll(torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64))


def test_a_row_without_dimensions_has_nll_0() -> None:
    assert bernoulli_nll(torch.zeros(3, 0), torch.zeros(3, 0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3, 1025), (4, 1, 9, 9), (2, 5, 7), (3, 0)])
class TestGradientOfTheForward:
    """On the CPU the forward writes the gradient: it is bit-equal to the backward operator's in every call."""

    def inputs(self, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = (3 * normal(*shape, dtype=dtype)).requires_grad_()
        target = torch.sigmoid(normal(*shape[-3:], seed=1, dtype=dtype))
        nll = bernoulli_nll(logits, target)
        return nll, logits, target, normal(*nll.shape, seed=2, dtype=nll.dtype)

    def test_first_and_second_backward(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        nll, logits, target, weights = self.inputs(shape, dtype)
        expected = torch.ops.fastvae.bernoulli_nll_backward(weights, logits.detach(), target, None)
        (first,) = torch.autograd.grad(nll, logits, weights, retain_graph=True)
        (second,) = torch.autograd.grad(nll, logits, 2 * weights)
        assert torch.equal(first, expected)
        assert torch.equal(second, 2 * expected)

    def test_values_with_and_without_a_gradient(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        nll, logits, target, _ = self.inputs(shape, dtype)
        assert torch.equal(nll.detach(), bernoulli_nll(logits.detach(), target))

    def test_integer_targets(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        _, logits, target, weights = self.inputs(shape, dtype)
        for integers in (target > 0.5, (target * 255).to(torch.uint8)):
            (gradient,) = torch.autograd.grad(bernoulli_nll(logits, integers), logits, weights)
            expected = torch.ops.fastvae.bernoulli_nll_backward(weights, logits.detach(), integers, None)
            assert torch.equal(gradient, expected)
