from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor

from fastvae.ops import discretized_logistic_nll
from tests.ops.cases import normal
from tests.ops.likelihood_properties import Case, LikelihoodProperties


class LogisticProperties(LikelihoodProperties):
    operator = "discretized_logistic_nll"

    def scale_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        raise NotImplementedError

    def case(
        self,
        batch: int = 5,
        event: tuple[int, ...] = (7,),
        dtype: torch.dtype = torch.float32,
        samples: int | None = None,
    ) -> Case:
        shape = self.output_shape(batch, event, samples)
        log_scale = normal(*self.scale_shape(shape, event), seed=1, dtype=dtype) - 1
        levels = (normal(batch, *event, seed=2).abs() * 3).clamp(max=4).to(torch.uint8)
        return Case(
            nll=lambda mean, scale, target, mask: discretized_logistic_nll(mean, scale, target, mask, num_levels=5),
            parameters=(normal(*shape, dtype=dtype) / 2, log_scale),
            target=levels,
        )

    def names(self) -> tuple[str, str]:
        return "mean", "target"


class TestOneScale(LogisticProperties):
    def scale_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        return ()


class TestScalePerDimension(LogisticProperties):
    def scale_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        return event


class TestFullScale(LogisticProperties):
    def scale_shape(self, output: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
        return output


def exact(mean: float, log_scale: float, level: int, num_levels: int) -> float:
    """Compute the difference of sigmoids with 80 digits."""
    with mpmath.workdps(80):
        half, scale = mpmath.mpf(1) / (num_levels - 1), mpmath.exp(mpmath.mpf(log_scale))
        x = 2 * half * level - 1

        def cdf(at: mpmath.mpf) -> mpmath.mpf:
            return 1 / (1 + mpmath.exp(-(at - mpmath.mpf(mean)) / scale))

        upper = cdf(x + half) if level < num_levels - 1 else mpmath.mpf(1)
        lower = cdf(x - half) if level > 0 else mpmath.mpf(0)
        return float(-mpmath.log(upper - lower))


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-11)])
def test_against_the_difference_of_sigmoids(num_levels: int, dtype: torch.dtype, tolerance: float) -> None:
    levels = sorted({0, 1, num_levels // 2, num_levels - 2, num_levels - 1})
    grid = [(m, s, t) for m in (-1.5, -0.25, 0.0, 0.5, 1.0) for s in (-4.0, -2.5, 0.0, 3.0, 8.0) for t in levels]
    mean, log_scale = (torch.tensor([point[i] for point in grid], dtype=dtype) for i in (0, 1))
    target = torch.tensor([point[2] for point in grid], dtype=torch.uint8)
    nll = discretized_logistic_nll(mean, log_scale, target, num_levels=num_levels)
    truth = torch.tensor([exact(*point, num_levels) for point in grid], dtype=torch.float64)
    # An edge (x - mean) / scale carries x's rounding error times 1 / scale.
    allowed = tolerance * (truth + 1 + torch.exp(-log_scale.double()) / 8)
    assert ((nll.double() - truth).abs() <= allowed).all()


@pytest.mark.parametrize("log_scale", [-3.0, 0.0, 2.0])
def test_the_levels_probabilities_add_up_to_1(log_scale: float) -> None:
    levels = torch.arange(256)
    mean = torch.full((256,), 0.3, dtype=torch.float64)
    nll = discretized_logistic_nll(mean, torch.tensor(log_scale, dtype=torch.float64), levels)
    assert torch.exp(-nll).sum().item() == pytest.approx(1, rel=1e-12)


def test_the_nll_is_finite_at_the_limits_of_the_documented_range() -> None:
    for log_scale in (-80.0, 80.0):
        mean = torch.tensor([0.1, -0.9, 0.9], requires_grad=True)
        scale = torch.full((3,), log_scale, requires_grad=True)
        nll = discretized_logistic_nll(mean, scale, torch.tensor([128, 0, 255], dtype=torch.uint8))
        assert nll.isfinite().all()
        nll.sum().backward()
        assert scale.grad is not None
        assert scale.grad.isfinite().all()


def test_levels_as_uint8_other_integers_and_floats() -> None:
    mean, log_scale = normal(4, 9) / 2, normal(4, 9, seed=1) - 2
    levels = (normal(4, 9, seed=2) * 60 + 128).clamp(0, 255).to(torch.uint8)
    expected = discretized_logistic_nll(mean, log_scale, levels)
    for dtype in (torch.int64, torch.int32, torch.float32, torch.float64):
        assert torch.equal(discretized_logistic_nll(mean, log_scale, levels.to(dtype)), expected)


def test_invalid_levels_are_refused() -> None:
    x: Tensor = torch.zeros(5, 7)
    with pytest.raises(ValueError, match=r"^discretized_logistic_nll: num_levels must be at least 2, got 1; 256 is"):
        discretized_logistic_nll(x, x, x, num_levels=1)
    with pytest.raises(
        ValueError, match=r"^discretized_logistic_nll: log_scale must be one number, or have an example's"
    ):
        discretized_logistic_nll(x, torch.zeros(6), x)
