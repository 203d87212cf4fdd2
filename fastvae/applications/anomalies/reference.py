"""The reference of anomaly scores: what is usual among the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fastvae.applications.anomalies.rarity import Marginals, Tail
from fastvae.applications.anomalies.scores import Scores, Threshold
from fastvae.applications.anomalies.terms import Terms
from fastvae.data.table.covariance import Covariance


@dataclass(frozen=True)
class Reference:
    """What is usual among the training rows: the rows that are scored are compared with it, never with each other."""

    medians: Tensor
    """[C + 1] float64 nats, the medians of the VAE's terms: those of the columns, then the latent one."""
    elbo: Tail
    """The distribution of the negative ELBO."""
    distance: Tail
    """The distribution of the squared Mahalanobis distance."""
    rarity: Tail
    """The distribution of the sum of the columns' surprisals."""
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
        reference = cls(
            medians=_medians(train),
            elbo=Tail.of(train.negative_elbo),
            distance=Tail.of(covariance.distances(train.rows, train.widths).sum(1)),
            rarity=Tail.of(marginals.surprisal(train.rows, train.widths).sum(1)),
            covariance=covariance,
            marginals=marginals,
            widths=train.widths,
            train_totals=torch.zeros(0, dtype=torch.float64),
        )
        totals = reference.scores(train, [""] * len(train.widths)).total
        return replace(reference, train_totals=totals.sort().values)

    def scores(self, terms: Terms, names: Sequence[str]) -> Scores:
        """The scores of rows: the sum of the surprisals of three statistics, as Fisher's method combines p-values.

        A statistic's surprisal is -log of the fraction of training rows that are at least as unusual by it. The
        statistics are the negative ELBO, the squared Mahalanobis distance, and the sum of the columns' surprisals. Each
        surprisal is divided among the columns (and, for the ELBO, the latent term) in proportion to the statistic's
        terms; those of the ELBO count as far as they are above their medians.

        Args:
            terms: the terms of N rows.
            names: the names of the C columns.
        """
        present = terms.is_present.double()
        excess = (terms.all - self.medians).clamp_min(0.0) * torch.cat([present, torch.ones_like(present[:, :1])], 1)
        distances = self.covariance.distances(terms.rows, terms.widths)
        rarities = self.marginals.surprisal(terms.rows, terms.widths)
        parts = _divide(self.elbo.surprisal(terms.negative_elbo), excess)
        for tail, each in ((self.distance, distances), (self.rarity, rarities)):
            with_latent = torch.cat([each * present, torch.zeros_like(each[:, :1])], 1)
            parts = parts + _divide(tail.surprisal(each.sum(1)), with_latent)
        return Scores(parts.sum(1), parts[:, -1], parts[:, :-1], terms.negative_elbo, tuple(names))

    def threshold(self, contamination: float) -> Threshold:
        """The score that a fraction of the training rows exceeds."""
        quantile = float(np.quantile(self.train_totals.numpy(), 1 - contamination))
        return Threshold(quantile, contamination, len(self.train_totals))


def _medians(terms: Terms) -> Tensor:
    """The medians [C + 1] of the terms; those of the columns over the rows that have a value, 0 if none has."""
    columns = terms.columns.masked_fill(~terms.is_present, torch.nan).nanmedian(0).values.nan_to_num(0.0)
    return torch.cat([columns, terms.latent.median()[None]])


def _divide(totals: Tensor, weights: Tensor) -> Tensor:
    """Totals [N] divided in proportion to weights [N, K] that are not negative; into the last part if all are 0."""
    sums = weights.sum(1, keepdim=True)
    last = torch.zeros_like(weights)
    last[:, -1] = 1.0
    return totals[:, None] * torch.where(sums > 0, weights / sums.clamp_min(torch.finfo(sums.dtype).tiny), last)
