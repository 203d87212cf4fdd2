"""The formulas of the CUDA kernels with the documented errors of the GPU's approximate instructions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.csrc.grid import call, needs_compiler

pytestmark = needs_compiler


def exact_normals(words: Tensor) -> Tensor:
    """Compute Box-Muller in float64 from words int64 [N, 2], exact also for u near 1."""
    radius_word, angle = words[:, 0].double(), (words[:, 1].double() + 0.5) * (2 * math.pi / 2**32)
    upper = words[:, 0] >= 2**31
    log = torch.where(
        upper,
        torch.log1p(-((2**32 - 1 - radius_word) + 0.5) / 2**32),
        torch.log((radius_word + 0.5) / 2**32),
    )
    return torch.sqrt(-2 * log)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def all_kinds_of_words() -> Tensor:
    """Return words int64 [N, 2]: radii and angles over the range, at both ends, and where the formula changes."""
    generator = torch.Generator().manual_seed(3)
    anywhere = torch.randint(0, 2**32, (50_000, 2), generator=generator)
    ends = torch.cat([torch.arange(2000), 2**32 - 1 - torch.arange(2000), 0xFFC00000 + torch.arange(-2000, 2000)])
    near_one = 2**32 - 1 - (2.0 ** torch.linspace(0, 22, 5_000, dtype=torch.float64)).long()
    radius = torch.cat([ends, near_one])
    quarter_turns = torch.arange(len(radius)) % 4 * 2**30 + torch.randint(
        -500, 500, (len(radius),), generator=generator
    )
    return torch.cat([anywhere, torch.stack([radius, quarter_turns % 2**32], 1)])


def test_normals_are_within_their_error_bound(error: float) -> None:
    words = all_kinds_of_words()
    normals = torch.full((len(words), 2), torch.nan)
    call("box_muller", len(words), words, normals)
    assert float((normals.double() - exact_normals(words)).abs().max()) <= 2e-5  # the limit of CUDA's noise is 5e-5
    assert float(normals.abs().max()) < 6.77


def formulas(logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.full((3, len(logvar)), torch.nan)
    call("log_variance", len(logvar), logvar, out)
    sigma, growth, excess = out.double().unbind()
    return sigma, growth, excess


def exact_excess(logvar: Tensor) -> Tensor:
    """Compute exp(l) - 1 - l in float64, by its series where the difference would cancel."""
    series, term = torch.zeros_like(logvar), logvar.clone()
    for n in range(2, 18):
        term = term * logvar / n
        series = series + term
    return torch.where(logvar.abs() < 0.5, series, torch.expm1(logvar) - logvar)


def test_kl_and_its_derivative_are_accurate_at_every_log_variance(error: float) -> None:
    spread = torch.cat([torch.linspace(-30, 20, 60_001), torch.linspace(-1.5, 1.5, 60_001)])
    tiny = 10.0 ** torch.linspace(-30, 0, 5_001)
    logvar = torch.cat([spread, tiny, -tiny])
    sigma, growth, excess = formulas(logvar)
    l64 = logvar.double()
    assert float((sigma / torch.exp(l64 / 2) - 1).abs().max()) <= 2e-6
    exact = exact_excess(l64)
    normal = exact > 1e-37  # below, float32 values are subnormal
    assert float((excess / exact - 1).abs()[normal].max()) <= 1e-6
    assert float(excess.min()) >= 0.0
    known = l64 != 0
    assert float((growth / torch.expm1(l64) - 1).abs()[known].max()) <= 1e-6


def test_log_variances_beyond_the_range_of_float32(error: float) -> None:
    inf, nan = math.inf, math.nan
    sigma, growth, excess = formulas(torch.tensor([inf, 1000.0, 200.0, 89.0, 88.0, -88.0, -200.0, -1000.0, -inf, nan]))
    assert sigma[0] == sigma[1] == inf
    assert growth[:4].tolist() == excess[:4].tolist() == [inf] * 4
    assert float(excess[4] / math.exp(88)) == pytest.approx(1, abs=2e-6)
    assert growth[5:9].tolist() == [-1.0] * 4
    assert excess[5:9].tolist() == [87.0, 199.0, 999.0, inf]
    assert sigma[7] == sigma[8] == 0.0
    assert sigma[9].isnan()
    assert growth[9].isnan()
    assert excess[9].isnan()


def test_kl_is_accurate_down_to_log_variances_of_minus_5e6(error: float) -> None:
    logvar = -(10.0 ** torch.linspace(2, 6.69, 200))
    _, growth, excess = formulas(logvar)
    torch.testing.assert_close(excess, -logvar.double() - 1, rtol=1e-6, atol=0)
    assert bool((growth == -1).all())
