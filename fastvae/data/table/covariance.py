"""The Mahalanobis distance of a row from the bulk of the training rows, and rows without the most distant ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae.data.source import Source
from fastvae.data.views import chunks, evenly_spaced

_TRIMMED = 0.25  # fraction of training rows, the most distant ones, that are left out of the second and third estimate
_TRIMS = 2
_FLOOR = 1e-3  # smallest variance in any direction, relative to the largest
_MAX_ROWS = 20_000
_WIDE = 2000  # elements of a row, above which an estimate uses as many rows
_CONSTANT = 1e-9  # standard deviation at which an element does not vary


@dataclass(frozen=True)
class Covariance:
    """Mean and covariance of the training rows, estimated robustly.

    A linear VAE's maximum likelihood is that of probabilistic PCA (Dai et al. 2018, arXiv 1706.05148; Lucas et al.
    2019, arXiv 1911.02469), whose density with all components is a normal with the rows' mean and covariance. It has a
    closed form, so it is not trained. Twice, the quarter of the rows that are the most distant is left out and the
    estimate is repeated, which is how the minimum covariance determinant is searched for (Rousseeuw & Van Driessen
    1999).
    """

    mean: Tensor
    """[P] float64."""
    scale: Tensor
    """[P] float64, standard deviations; infinite for elements that do not vary, which are left out."""
    center: Tensor
    """[P] float64, mean of the scaled rows that are not left out."""
    vectors: Tensor
    """[P, R] float64, the eigenvectors of the covariance of scaled rows whose variance is above the floor."""
    precision: Tensor
    """[R] float64, the inverse standard deviations in their directions."""
    rest: Tensor
    """[] float64, the inverse standard deviation in all other directions: that of the floor."""

    @classmethod
    def of(cls, rows: Tensor) -> Covariance:
        """The estimate from rows [M, P]; NaN where a value is missing, which counts as the mean.

        Of more than 20 000 rows, so many evenly spaced ones are used; 2000 if a row has more than 2000 elements.
        """
        most = _MAX_ROWS if rows.shape[1] <= _WIDE else _WIDE
        rows = (rows if len(rows) <= most else rows[evenly_spaced(len(rows), most)]).double()
        present = ~rows.isnan()
        num = present.sum(0).clamp_min(1)
        filled = rows.nan_to_num(0.0)
        mean = filled.sum(0) / num
        deviations = (filled - mean) * present
        scale = (deviations.square().sum(0) / num).sqrt()
        scale = torch.where(scale > _CONSTANT, scale, torch.inf)
        scaled = deviations / scale
        found = cls(mean, scale, *_estimate(scaled))
        for _ in range(_TRIMS):
            distance = found._whitened(scaled).square().sum(1)
            found = cls(mean, scale, *_estimate(_nearest(scaled, distance)))
        return found

    def distances(self, rows: Tensor, widths: tuple[int, ...]) -> Tensor:
        """[N, P] -> [N, C] float64: the squared Mahalanobis distance of each row, divided among the columns.

        The parts are the squares of the row after symmetric whitening, which changes the columns less than any other
        whitening (Kessy et al. 2018, arXiv 1512.00809, ZCA-cor): they are not negative and add up to the distance.
        """
        squares = self._whitened((rows - self.mean).nan_to_num(0.0) / self.scale).square()
        return torch.stack([part.sum(1) for part in squares.split(widths, dim=1)], dim=1)

    def _whitened(self, scaled: Tensor) -> Tensor:
        """[N, P] -> [N, P]: scaled rows times the symmetric inverse square root of the covariance."""
        centered = scaled - self.center
        return centered * self.rest + ((centered @ self.vectors) * (self.precision - self.rest)) @ self.vectors.T


def without_distant(source: Source, widths: tuple[int, ...], share: float) -> Tensor:
    """Indices, in order, of the rows of a table without the most distant ones.

    Args:
        source: rows [N, P].
        widths: per column the number of its elements in a row.
        share: fraction of the rows that are left out; at least two rows are kept.
    """
    num = len(source)
    covariance = Covariance.of(source[torch.arange(num) if num <= _MAX_ROWS else evenly_spaced(num, _MAX_ROWS)])
    distances = [covariance.distances(source[indices].double(), widths).sum(1) for indices in chunks(num)]
    # Single precision: equal rows are equally distant, whatever the order in which a library adds up.
    order = torch.cat(distances).float().argsort(stable=True)
    num_kept = max(min(num, 2), round((1 - share) * num))
    return order[:num_kept].sort().values


def _nearest(rows: Tensor, distance: Tensor) -> Tensor:
    """The rows that are not trimmed, in their order."""
    num = max(1, round((1 - _TRIMMED) * len(rows)))
    return rows[distance.argsort(stable=True)[:num].sort().values]


def _estimate(rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The fields center, vectors, precision and rest of `Covariance` from scaled rows [M, P]."""
    center = rows.mean(0)
    centered = (rows - center) / len(rows) ** 0.5
    if len(rows) < rows.shape[1]:  # all other directions have no variance
        _, deviations, transposed = torch.linalg.svd(centered, full_matrices=False)
        vectors = transposed.T
    else:
        variances, vectors = torch.linalg.eigh(centered.T @ centered)
        deviations = variances.clamp_min(0.0).sqrt()
    floor = max(float(deviations.max()) * _FLOOR**0.5, _CONSTANT)
    kept = deviations > floor
    return center, vectors[:, kept].contiguous(), 1 / deviations[kept], torch.tensor(1 / floor, dtype=rows.dtype)
