"""Anomaly scores of a table's rows, the columns that explain them, and a comparison with other detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.applications.config import ANOMALY_SAMPLES
from fastvae.data import Data, MicroBatch
from fastvae.data.table.columns import TABLE_FILE, columns_from_bytes
from fastvae.distributed import Rounds
from fastvae.generative import AnyModel
from fastvae.likelihoods import BoundTable
from fastvae.models import VAE
from fastvae.run import Examples, LoadedRun
from fastvae.run.chunks import over_examples

_PCA_VARIANCE = 0.9  # the fraction of the variance that PCA keeps

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Anomaly scores of N rows in nats; a larger score means a less likely row."""

    total: Tensor
    """[N] float64, the negative ELBO: the sum of the latent term and all column terms."""
    latent: Tensor
    """[N] float64, KL(q(z|x) || p(z)): how unusual the row is as a whole."""
    columns: Tensor
    """[N, C] float64, the negative log likelihood of each column; 0 where a value is missing."""
    names: tuple[str, ...]
    """The names of the C columns."""

    def reasons(self, row: int, num: int = 3) -> list[tuple[str, float]]:
        """The ``num`` largest terms of a row's score: (column name or "latent", nats), largest first."""
        shares = dict(zip(self.names, self.columns[row].tolist(), strict=True)) | {"latent": float(self.latent[row])}
        return sorted(shares.items(), key=lambda share: -share[1])[:num]


@torch.no_grad()
def score_rows(
    model: VAE, batches: Iterable[MicroBatch], names: Sequence[str], *, num_samples: int = ANOMALY_SAMPLES
) -> Scores:
    """Compute the negative ELBO of each row, split into its terms.

    The result does not depend on how the rows are batched, because the noise depends only on a row's index in its file.

    Args:
        model: a VAE in evaluation mode with the likelihood ``table``.
        batches: rows with their evaluation noise keys.
        names: the names of the C columns.
        num_samples: number of samples of z that the column terms are averaged over.
    """
    names = tuple(names)
    return _join([_terms(model, micro, num_samples) for micro in batches], names)


def _terms(model: VAE, micro: MicroBatch, num_samples: int) -> dict[str, Tensor]:
    """The latent term [B] and the column terms [B, C] of rows, float64 nats."""
    batch = micro.batch
    posterior = model.encode(batch)
    z, rate, _ = model.prior.rsample_rate(posterior, micro.key, num_samples=num_samples, evaluation=True)
    bound = model.decode(z.view(num_samples, *posterior.mu.shape), batch)
    assert isinstance(bound, BoundTable)
    columns = -bound.log_prob_per_column(batch.target, batch.mask).double().mean(0)
    kl = model.prior.kl(posterior)
    latent = (rate.view(num_samples, -1).mean(0) if kl is None else kl).double()
    return {"latent": latent.cpu(), "columns": columns.cpu()}


def _join(parts: Sequence[Mapping[str, Tensor]], names: tuple[str, ...]) -> Scores:
    latent, columns = (torch.cat([part[name] for part in parts]) for name in ("latent", "columns"))
    return Scores(latent + columns.sum(1), latent, columns, names)


def score_run(run: LoadedRun, examples: Examples = "test", *, num_samples: int = ANOMALY_SAMPLES) -> Scores:
    """Score the test rows of a finished run, the rows of a file or those of a source.

    Raises:
        ValueError: the run was not trained on a table.
    """
    scores = score_on_ranks(run, examples, Rounds(), num_samples=num_samples)
    assert scores is not None  # one process has all rows
    return scores


def score_on_ranks(
    run: LoadedRun, examples: Examples, rounds: Rounds, *, num_samples: int = ANOMALY_SAMPLES
) -> Scores | None:
    """Like `score_run`, by ranks that share the rows; None on ranks other than 0.

    Raises:
        ValueError: the run was not trained on a table.
    """
    model = require_table(run)
    parts = list(over_examples(run, examples, lambda micro: _terms(model, micro, num_samples), rounds))
    return _join(parts, column_names(run.data)) if rounds.is_main else None


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

    nats: float
    """The ``1 - contamination`` quantile of the training rows' scores."""
    contamination: float
    """The fraction of training rows, which may include anomalies, above the threshold."""
    num_train: int
    """Number of training rows."""

    @classmethod
    def of(cls, train_scores: Tensor, contamination: float) -> Threshold:
        """The threshold of training scores [M] in nats."""
        quantile = float(np.quantile(train_scores.double().numpy(), 1 - contamination))
        return cls(quantile, contamination, len(train_scores))

    def line(self, num_above: int, num_rows: int) -> str:
        """The threshold and how many rows are above it, in words."""
        return (
            f"threshold {self.nats:.4f} nats, exceeded by {self.contamination:.2%} of {self.num_train:,} training rows;"
            f" {num_above:,} of {num_rows:,} rows exceed it"
        )


def require_table(run: LoadedRun) -> VAE:
    """The model of a run that was trained on a table.

    Raises:
        ValueError: the run was not trained on a table, or its model estimates no ELBO.
    """
    if run.data.kind != "table" or not isinstance(run.model, VAE):
        raise ValueError(
            f"{run.directory} was not trained on a table: its data are of kind {run.data.kind}; train a run on a table"
            " with `fastvae train anomaly-table`"
        )
    AnyModel(run.model).require_elbo("say how unlikely a row is")
    return run.model


def column_names(data: Data) -> tuple[str, ...]:
    """The column names of a table."""
    return tuple(column.name for column in columns_from_bytes(data.state[TABLE_FILE]))


@dataclass(frozen=True)
class Detection:
    """How well scores separate anomalies from other rows."""

    auroc: float
    """Area under the receiver operating characteristic curve."""
    average_precision: float
    """Average precision, the area under the precision-recall curve."""


def detection(labels: Array, scores: Array) -> Detection:
    """AUROC and average precision of scores [N] for labels [N], 1 for an anomaly.

    Raises:
        ValueError: all rows have the same label.
    """
    if not has_both_kinds(labels):
        raise ValueError(
            f"anomalies: labels must include both 0 and 1, got only {np.unique(labels).tolist()};"
            " --data.table.label names the label column"
        )
    from sklearn.metrics import average_precision_score, roc_auc_score  # imported here: it takes a second

    return Detection(float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores)))


def has_both_kinds(labels: Array) -> bool:
    """Whether labels [N] include both anomalies and other rows, as every detection metric requires."""
    return len(np.unique(labels)) == 2


def baselines(seed: int) -> dict[str, Callable[[Array, Array], Array]]:
    """Baseline detectors by name: functions from (train [M, P], test [N, P]) to scores [N], large for an anomaly."""

    def isolation_forest(train: Array, test: Array) -> Array:
        from sklearn.ensemble import IsolationForest

        return -IsolationForest(random_state=seed).fit(train).score_samples(test)

    def pca(train: Array, test: Array) -> Array:
        from sklearn.decomposition import PCA

        center, scale = train.mean(0), train.std(0)
        scale[scale == 0] = 1.0
        train, test = (train - center) / scale, (test - center) / scale
        fitted = PCA(n_components=_PCA_VARIANCE, svd_solver="full").fit(train)
        return np.square(test - fitted.inverse_transform(fitted.transform(test))).sum(1)

    return {"IsolationForest": isolation_forest, f"PCA ({_PCA_VARIANCE:.0%} of the variance)": pca}


def compare(run: LoadedRun, scores: Scores) -> dict[str, Detection]:
    """Compare the run's scores of its test rows with scikit-learn's detectors on the same rows.

    Returns:
        For each detector's name, how well it finds the anomalies.

    Raises:
        ValueError: the test rows' labels do not include both 0 and 1.
    """
    return compare_on(run.data, scores, name=run.config.recipe, seed=run.config.seed)


def compare_on(data: Data, scores: Scores, *, name: str, seed: int) -> dict[str, Detection]:
    """Like `compare`, for any data of kind table."""
    known = data.test.labels
    labels = np.zeros(len(data.test)) if known is None else known.double().numpy()
    found = {name: detection(labels, scores.total.numpy())}
    train, test = (_filled(source[torch.arange(len(source))]) for source in (data.train, data.test))
    return found | {rival: detection(labels, score(train, test)) for rival, score in baselines(seed).items()}


def _filled(rows: Tensor) -> Array:
    """Rows for detectors that do not support missing values, which are replaced by the median, 0."""
    filled: Array = rows.nan_to_num(0.0).double().numpy()
    return filled
