"""The covariance of a table's rows, and training without the most distant rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastvae.data import DataConfig, build_data, hold_out
from fastvae.data.table.config import TableConfig
from fastvae.data.table.covariance import Covariance


def correlated(num: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=num)
    return torch.from_numpy(np.stack([first, first + 0.3 * rng.normal(size=num), 5 + 2 * rng.normal(size=num)], axis=1))


def test_the_parts_of_the_columns_add_up_to_the_mahalanobis_distance() -> None:
    rows, others = correlated(500), 3 * correlated(40, seed=1)
    found = Covariance.of(rows)
    distances = found.distances(others, (1, 1, 1))
    assert distances.shape == (40, 3)
    assert bool((distances >= 0).all())
    nearest = rows
    for _ in range(2):  # twice, the most distant quarter is left out
        center, inverse = nearest.mean(0), np.linalg.inv(np.cov(nearest.T.numpy(), bias=True))
        order = np.einsum("ni,ij,nj->n", rows - center, inverse, rows - center).argsort()
        nearest = rows[order[:375].copy()]
    center, inverse = nearest.mean(0), np.linalg.inv(np.cov(nearest.T.numpy(), bias=True))
    expected = np.einsum("ni,ij,nj->n", others - center, inverse, others - center)
    np.testing.assert_allclose(distances.sum(1), expected, rtol=1e-9)


def test_outliers_do_not_change_the_covariance_much() -> None:
    rows = correlated(500)
    with_outliers = torch.cat([rows, torch.full((50, 3), 100.0, dtype=torch.float64)])
    far = torch.tensor([[3.0, -3.0, 5.0]], dtype=torch.float64)
    clean, dirty = (float(Covariance.of(each).distances(far, (1, 1, 1)).sum()) for each in (rows, with_outliers))
    assert dirty == pytest.approx(clean, rel=0.35)


@pytest.mark.parametrize("shape", [(1, 2), (3, 8), (40, 1)])
def test_few_rows_equal_rows_and_missing_values_have_finite_distances(shape: tuple[int, int]) -> None:
    rows = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows[:, 0] = torch.nan
    for each in (rows, torch.ones(shape, dtype=torch.float64)):
        distances = Covariance.of(each).distances(torch.cat([each, rows + 1]), (1,) * shape[1])
        assert bool(distances.isfinite().all())


def write_rows(path: Path) -> Path:
    """Write 200 rows, of which every tenth is far from the others."""
    rows = correlated(200)
    rows[::10] += 20
    path.write_text("\n".join(["a,b,c", *(",".join(f"{value:.4f}" for value in row) for row in rows.tolist())]) + "\n")
    return path


def test_the_most_distant_training_rows_are_left_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv")
    every, trimmed = (
        build_data(DataConfig(name="table", path=path, table=TableConfig(trim=trim)), seed=0) for trim in (0.0, 0.2)
    )
    assert every.untrimmed is None
    assert trimmed.untrimmed is not None
    rows = every.train[torch.arange(140)]
    assert torch.equal(trimmed.untrimmed[torch.arange(140)], rows)
    kept = trimmed.train[torch.arange(len(trimmed.train))]
    assert len(kept) == 112
    assert float(kept.abs().max()) < 4 < float(rows.abs().max())
    assert torch.equal(kept, rows[(rows[:, None] == kept).all(2).any(1)])  # in their order
    assert torch.equal(trimmed.test[torch.arange(60)], every.test[torch.arange(60)])
    assert any("28 of the 140 training rows" in note for note in trimmed.notes)
    held = hold_out(trimmed, 0.25)
    assert held.validation is not None
    assert (len(held.train), len(held.validation)) == (84, 28)


def test_the_share_has_limits() -> None:
    with pytest.raises(ValueError, match=r"trim must be in \[0, 0\.5\], got 0\.6"):
        TableConfig(trim=0.6)
