"""The rarity of values among training rows, and how the surprisals of the statistics are divided among the columns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastvae.applications.anomalies import Reference
from fastvae.applications.anomalies.rarity import Marginals, Tail
from fastvae.applications.anomalies.terms import Terms


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_surprisal_is_minus_the_log_of_the_fraction_of_rows_that_are_as_unusual() -> None:
    tail = Tail.of(torch.arange(1000, dtype=torch.float64))
    found = torch.exp(-tail.surprisal(numbers(-5, 0, 500, 750, 890)))
    torch.testing.assert_close(found, numbers(1, 1, 0.5, 0.25, 0.11), rtol=0, atol=2e-3)


def test_values_beyond_the_training_rows_have_an_exponential_tail() -> None:
    values = -torch.log(torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    far = numbers(4, 8, 16, 32)  # the surprisal of an exponential variable is its value
    torch.testing.assert_close(Tail.of(values).surprisal(far), far, rtol=0.05, atol=0)


@pytest.mark.parametrize("values", [[3.0], [3.0] * 50, [0.0, 1.0]])
def test_few_and_equal_values_have_finite_surprisals(values: list[float]) -> None:
    found = Tail.of(numbers(*values)).surprisal(numbers(-1, 3, 4, 1e6))
    assert bool(found.isfinite().all())
    assert found.tolist() == sorted(found.tolist())


def test_a_column_is_rare_on_both_sides_and_a_missing_value_is_not() -> None:
    rows = torch.cat([normal(4000, 1), torch.nn.functional.one_hot(torch.arange(4000) % 10 // 9, 3).double()], 1)
    marginals = Marginals.of(rows, (1, 3))
    others = numbers(-1.96, 1, 0, 0, 1.96, 0, 1, 0, 0, 0, 0, 1, 9, torch.nan, torch.nan, torch.nan).view(4, 4)
    others[3, 0] = torch.nan
    found = marginals.surprisal(others, (1, 3))
    torch.testing.assert_close(found[:3, 0], numbers(3.0, 3.0, 0.0), rtol=0, atol=0.15)
    torch.testing.assert_close(found[:3, 1], numbers(0, math.log(9), math.log(3600.5 / 0.5)), rtol=0, atol=0.01)
    assert found[3].tolist() == [0, 0]


def terms(num: int, seed: int) -> Terms:
    rows = normal(num, 3, seed=seed)
    return Terms(normal(num, seed=seed + 1).square(), rows.square(), rows, (1, 1, 1))


def test_parts_are_not_negative_and_the_unusual_column_has_the_largest() -> None:
    reference, others = Reference.of(terms(2000, 0)), terms(50, 10)
    others.rows[7, 1], others.columns[7, 1] = 9.0, 81.0
    others.rows[8], others.columns[8] = torch.nan, 0.0  # all values are missing
    others.latent[8] = 0.0
    found = reference.scores(others, ("a", "b", "c"))
    assert bool((found.columns >= 0).all())
    assert bool((found.latent >= 0).all())
    torch.testing.assert_close(found.total, found.latent + found.columns.sum(1))
    assert found.total.argmax() == 7
    assert found.reasons(7, 1)[0][0] == "b"
    assert found.reasons(7, 1)[0][1] > 0.9 * float(found.total[7])
    assert found.columns[8].tolist() == [0, 0, 0]


def test_the_score_of_a_training_row_is_exceeded_by_as_many_as_the_threshold_says() -> None:
    train = terms(2000, 0)
    reference = Reference.of(train)
    threshold = reference.threshold(0.05)
    assert (reference.scores(train, "abc").total > threshold.score).double().mean() == pytest.approx(0.05, abs=1e-3)
    assert (reference.scores(terms(2000, 20), "abc").total > threshold.score).double().mean() == pytest.approx(
        0.05, abs=0.02
    )
