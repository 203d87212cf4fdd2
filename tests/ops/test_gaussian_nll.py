from __future__ import annotations

import pytest
import torch

from fastvae.ops import gaussian_nll
from tests.ops.cases import DTYPES, SHAPES, assert_close, normal
from tests.ops.likelihood_properties import Case, LikelihoodProperties


class GaussianProperties(LikelihoodProperties):
    operator = "gaussian_nll"

    def logvar_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        raise NotImplementedError

    def case(
        self,
        batch: int = 5,
        event: tuple[int, ...] = (7,),
        dtype: torch.dtype = torch.float32,
        samples: int | None = None,
    ) -> Case:
        shape = self.output_shape(batch, event, samples)
        parameters = (normal(*shape, dtype=dtype), normal(*self.logvar_shape(shape, event), seed=1, dtype=dtype))
        return Case(
            nll=lambda mean, logvar, target, mask: gaussian_nll(mean, target, logvar, mask),
            parameters=parameters,
            target=normal(batch, *event, seed=2, dtype=dtype),
        )

    def names(self) -> tuple[str, str]:
        return "mean", "target"


class TestOneLogvar(GaussianProperties):
    def logvar_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        return ()


class TestLogvarPerDimension(GaussianProperties):
    def logvar_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        return event


class TestFullLogvar(GaussianProperties):
    def logvar_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        return output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["one", "per dimension", "full"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_torch_distributions(shape: tuple[int, ...], kind: str, dtype: torch.dtype) -> None:
    logvar_shape = {"one": (), "per dimension": shape[1:], "full": shape}[kind]
    mean = normal(*shape, dtype=dtype).requires_grad_()
    logvar = normal(*logvar_shape, seed=1, dtype=dtype).requires_grad_()
    target = normal(*shape, seed=2, dtype=dtype)
    nll = gaussian_nll(mean, target, logvar)
    true_mean, true_logvar = (t.detach().double().requires_grad_() for t in (mean, logvar))
    density = torch.distributions.Normal(true_mean, torch.exp(true_logvar / 2), validate_args=False)
    per_value = -density.log_prob(target.double())
    truth = per_value.flatten(1).sum(1) if len(shape) > 1 else per_value
    assert_close(nll, truth.detach(), nll.dtype)
    weights = normal(shape[0], seed=3, dtype=nll.dtype)
    gradients = torch.autograd.grad(nll, (mean, logvar), weights)
    true_gradients = torch.autograd.grad(truth, (true_mean, true_logvar), weights.double())
    assert_close(gradients[0], true_gradients[0], dtype)
    terms = max(1, mean.numel() // max(1, logvar.numel()))  # terms of both signs: the error scales with the largest
    relative = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    allowed = relative * (true_gradients[1].abs() + 1) + 2e-6 * terms**0.5
    assert ((gradients[1].double() - true_gradients[1]).abs() <= allowed).all()


def test_a_float32_logvar_with_half_precision_means() -> None:
    mean, target = normal(4, 6, dtype=torch.bfloat16), normal(4, 6, seed=1)
    logvar = normal(6, seed=2).requires_grad_()
    nll = gaussian_nll(mean, target, logvar)
    torch.testing.assert_close(nll, gaussian_nll(mean.float(), target, logvar))
    nll.sum().backward()
    assert logvar.grad is not None
    assert logvar.grad.dtype == torch.float32


def test_an_invalid_logvar_is_refused() -> None:
    mean = torch.zeros(5, 7)
    with pytest.raises(
        ValueError, match=r"^gaussian_nll: logvar must be one number, or have an example's shape \[7\] or"
    ):
        gaussian_nll(mean, mean, torch.zeros(6))
    with pytest.raises(
        TypeError, match=r"^gaussian_nll: logvar must have mean's dtype torch.float32 or be float32, got"
    ):
        gaussian_nll(mean, mean, torch.zeros(7, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"^gaussian_nll: target must be float32, bfloat16, float16 or float64, got"):
        gaussian_nll(mean, mean.long(), torch.zeros(7))
