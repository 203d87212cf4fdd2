"""Other detectors on the same rows, and how well scores separate anomalies from other rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.applications.anomalies.scores import Scores
from fastvae.data import Data
from fastvae.run import LoadedRun

Array = NDArray[np.float64]
Detector = Callable[[Array, Array], Array]
"""From training rows [M, P] and test rows [N, P] to scores [N] of the test rows, large for an anomaly."""
_OF_PYOD = ("PCA", "HBOS", "ECOD")


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


def baselines(seed: int) -> dict[str, Detector]:
    """Other detectors by name: IsolationForest of scikit-learn, and PCA, HBOS and ECOD of PyOD if it is installed."""

    def isolation_forest(train: Array, test: Array) -> Array:
        from sklearn.ensemble import IsolationForest

        return -IsolationForest(random_state=seed).fit(train).score_samples(test)

    found: dict[str, Detector] = {"IsolationForest": isolation_forest}
    return found | {f"PyOD's {name}": _of_pyod(name, seed) for name in _OF_PYOD if find_spec("pyod") is not None}


def _of_pyod(name: str, seed: int) -> Detector:
    """A detector of PyOD with its default settings; PCA has as many components as the rows' rank."""

    def scores(train: Array, test: Array) -> Array:
        from pyod.models.ecod import ECOD
        from pyod.models.hbos import HBOS
        from pyod.models.pca import PCA

        rank = int(np.linalg.matrix_rank(train - train.mean(0)))  # PyOD divides by the variance of each component
        detector = {"PCA": lambda: PCA(max(rank, 1), random_state=seed), "HBOS": HBOS, "ECOD": ECOD}[name]()
        found: Array = detector.fit(train).decision_function(test)
        return found

    return scores


def compare(run: LoadedRun, scores: Scores) -> dict[str, Detection]:
    """Compare the run's scores of its test rows with those of other detectors on the same rows.

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
    train, test = (_filled(source[torch.arange(len(source))]) for source in (data.all_train, data.test))
    return found | {rival: detection(labels, score(train, test)) for rival, score in baselines(seed).items()}


def _filled(rows: Tensor) -> Array:
    """Rows for detectors that do not support missing values, which are replaced by the median, 0."""
    filled: Array = rows.nan_to_num(0.0).double().numpy()
    return filled
