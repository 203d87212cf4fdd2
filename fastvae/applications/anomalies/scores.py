"""Anomaly scores of rows, and the threshold above which a row is an anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Anomaly scores of N rows; a larger score means a more unusual row."""

    total: Tensor
    """[N] float64, not negative: the sum of the latent part and all column parts; see `Reference.scores`."""
    latent: Tensor
    """[N] float64, the part that no single column explains."""
    columns: Tensor
    """[N, C] float64, the parts of the columns; 0 where a value is missing."""
    negative_elbo: Tensor
    """[N] float64 nats: minus the VAE's ELBO, of which the score depends on the rank among the training rows."""
    names: tuple[str, ...]
    """The names of the C columns."""

    def reasons(self, row: int, num: int = 3) -> list[tuple[str, float]]:
        """The ``num`` largest parts of a row's score: (column name or "latent", part), largest first."""
        parts = dict(zip(self.names, self.columns[row].tolist(), strict=True)) | {"latent": float(self.latent[row])}
        return sorted(parts.items(), key=lambda part: -part[1])[:num]

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of consecutive rows."""
        return cls(
            total=torch.cat([part.total for part in parts]),
            latent=torch.cat([part.latent for part in parts]),
            columns=torch.cat([part.columns for part in parts]),
            negative_elbo=torch.cat([part.negative_elbo for part in parts]),
            names=parts[0].names,
        )


def check_contamination(contamination: float) -> None:
    """Check the fraction of anomalies that a user expects.

    Raises:
        ValueError: it is not in (0, 0.5].
    """
    if not 0 < contamination <= 0.5:
        raise ValueError(f"--contamination: must be in (0, 0.5], the fraction of anomalies, got {contamination}")


@dataclass(frozen=True)
class Threshold:
    """The score above which a row is an anomaly."""

    score: float
    """The ``1 - contamination`` quantile of the training rows' scores."""
    contamination: float
    """The fraction of training rows, which may include anomalies, above the threshold."""
    num_train: int
    """Number of training rows."""

    def line(self, num_above: int, num_rows: int) -> str:
        """The threshold and how many rows are above it, in words."""
        return (
            f"threshold {self.score:.4f}, exceeded by {self.contamination:.2%} of {self.num_train:,} training rows;"
            f" {num_above:,} of {num_rows:,} rows exceed it"
        )
