"""The reference of anomaly scores: what is usual among the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastvae.applications.anomalies.rarity import Marginals, Tail
from fastvae.applications.anomalies.scores import Scores, Threshold
from fastvae.applications.anomalies.terms import Terms
from fastvae.data.table.covariance import Covariance


@dataclass(frozen=True)
class Statistic:
    """A sum of terms, those of the columns and the latent one, as the training rows have it; large if unusual."""

    medians: Tensor
    """[C + 1] float64, the median of each term; that of a column is over the rows that have a value."""
    tail: Tail
    """The distribution of the sum."""

    @classmethod
    def of(cls, terms: Tensor, is_present: Tensor) -> Statistic:
        """The statistic of terms [M, C + 1], of which [M, C + 1] are present."""
        medians = terms.masked_fill(~is_present, torch.nan).nanmedian(0).values.nan_to_num(0.0)
        return cls(medians, Tail.of(terms.sum(1)))

    def parts(self, terms: Tensor, is_present: Tensor) -> Tensor:
        """The surprisal of the sum of each row's terms [N, C + 1], divided among them: [N, C + 1], not negative.

        It is divided in proportion to how far the terms are above their medians; if none is, it belongs to the latent
        term.
        """
        weights = (terms - self.medians).clamp_min(0.0) * is_present
        sums = weights.sum(1, keepdim=True)
        last = torch.zeros_like(weights)
        last[:, -1] = 1.0
        shares = torch.where(sums > 0, weights / sums.clamp_min(torch.finfo(sums.dtype).tiny), last)
        return self.tail.surprisal(terms.sum(1))[:, None] * shares


@dataclass(frozen=True)
class Reference:
    """What is usual among the training rows: the rows that are scored are compared with it, never with each other."""

    elbo: Statistic
    """The negative ELBO: the sum of its terms."""
    distance: Statistic
    """The squared Mahalanobis distance: the sum of its parts."""
    rarity: Statistic
    """The sum of the columns' surprisals."""
    covariance: Covariance
    """Mean and covariance of the rows."""
    marginals: Marginals
    """The distribution of each column."""
    widths: tuple[int, ...]
    """Per column the number of its elements in a row; see `Terms`."""
    train_totals: Tensor
    """[M] float64, sorted scores of the training rows."""

    @classmethod
    def of(cls, train: Terms) -> Reference:
        """The reference of training rows, which may contain anomalies."""
        covariance, marginals = Covariance.of(train.rows), Marginals.of(train.rows, train.widths)
        terms, is_present = _terms(train, covariance, marginals), _is_present(train)
        elbo, distance, rarity = (Statistic.of(each, is_present) for each in terms)
        parts = _parts((elbo, distance, rarity), terms, is_present)
        totals = parts.sum(1).sort().values
        return cls(elbo, distance, rarity, covariance, marginals, train.widths, totals)

    def scores(self, terms: Terms, names: Sequence[str]) -> Scores:
        """The scores of rows: the sum of the surprisals of three statistics, as Fisher's method combines p-values.

        A statistic's surprisal is -log of the fraction of training rows that are at least as unusual by it. The
        statistics are the negative ELBO, the squared Mahalanobis distance, and the sum of the columns' surprisals.

        Args:
            terms: the terms of the ELBO of N rows.
            names: the names of the C columns.
        """
        statistics = (self.elbo, self.distance, self.rarity)
        parts = _parts(statistics, _terms(terms, self.covariance, self.marginals), _is_present(terms))
        return Scores(parts.sum(1), parts[:, -1], parts[:, :-1], terms.negative_elbo, tuple(names))

    def threshold(self, contamination: float) -> Threshold:
        """The score that a fraction of the training rows exceeds."""
        quantile = float(np.quantile(self.train_totals.numpy(), 1 - contamination))
        return Threshold(quantile, contamination, len(self.train_totals))


def _terms(terms: Terms, covariance: Covariance, marginals: Marginals) -> list[Tensor]:
    """The terms [N, C + 1] of the three statistics; two of them have no latent term."""
    distances = covariance.distances(terms.rows, terms.widths)
    rarities = marginals.surprisal(terms.rows, terms.widths)
    return [terms.all, *(torch.cat([each, torch.zeros_like(each[:, :1])], dim=1) for each in (distances, rarities))]


def _parts(statistics: Sequence[Statistic], terms: Sequence[Tensor], is_present: Tensor) -> Tensor:
    """The parts [N, C + 1] of the sum of the statistics' surprisals."""
    found = zip(statistics, terms, strict=True)
    return torch.stack([statistic.parts(each, is_present) for statistic, each in found]).sum(0)


def _is_present(terms: Terms) -> Tensor:
    """[N, C + 1] bool: whether the row has a value in the column; the latent term is always there."""
    return torch.cat([terms.is_present, torch.ones_like(terms.is_present[:, :1])], dim=1)
