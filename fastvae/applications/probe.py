"""What a model's features are worth: simple classifiers on posterior means, beside PCA and the raw input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fastvae.applications.config import ProbeConfig
from fastvae.data import Source
from fastvae.data.views import take
from fastvae.figures import save_maps
from fastvae.records import PAD
from fastvae.run import LoadedRun

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """One kind of feature, and how often simple classifiers are right on test examples."""

    features: str
    dimensions: int
    knn_accuracy: float
    logistic_accuracy: float


@dataclass(frozen=True)
class _Features:
    """One kind of feature of the training and of the test examples."""

    name: str
    train: Array  # [N, D]
    test: Array  # [M, D]


def probe(run: LoadedRun, config: ProbeConfig | None = None) -> list[ProbeRow]:
    """Accuracies on posterior means, on as many principal components of the input, and on the input.

    The input is what the model reads: each example's x, flattened; of sentences, how often each token occurs.

    Args:
        run: a finished run on labelled data.
        config: how features are judged.

    Raises:
        ValueError: the data have no labels, labels of one class only, examples of no common shape, or too few; or the
            encoder is told the label.
    """
    config = config or ProbeConfig()
    train, test = _labelled(run, "train", config.num_train), _labelled(run, "test", config.num_test)
    if len(train) < config.neighbours:
        raise ValueError(f"probe: {config.neighbours} neighbours need as many training examples, got {len(train)}")
    labels = [_labels(source) for source in (train, test)]
    if len(np.unique(labels[0])) < 2:
        raise ValueError(f"probe: needs at least two classes, the {len(train)} training examples are all of one")
    return [_judge(features, labels[0], labels[1], config) for features in _all_features(run, train, test, config)]


def write_maps(run: LoadedRun, path: Path, *, num_examples: int = 2000, seed: int = 0) -> Path:
    """Test examples on two dimensions (t-SNE, van der Maaten and Hinton 2008): by posterior mean and by input.

    Raises:
        ValueError: fewer than 10 examples, or data without labels.
    """
    source = _labelled(run, "test", num_examples)
    if len(source) < 10:
        raise ValueError(f"probe: a map needs at least 10 test examples, got {len(source)}")
    perplexity = min(30.0, (len(source) - 1) / 3)
    maps = {
        name: torch.from_numpy(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(values))
        for name, values in (("posterior means", _means(run, source)), ("input", _inputs(run, source)))
    }
    title = f"{run.data.name}: {len(source):,} test examples, t-SNE"
    save_maps(path, maps, torch.from_numpy(_labels(source)), run.data.label_names, title=title)
    return path


def _labelled(run: LoadedRun, split: str, limit: int) -> Source:
    conditions = run.data.conditions
    if conditions is not None and "label" in conditions.places:
        raise ValueError(
            "probe: this run's encoder is told the label, so its features hold the answer;"
            " probe a run that was trained without --data.condition label"
        )
    source = run.source(split)
    if source.labels is None:
        raise ValueError(f"probe: {run.data.name} has no labels; probing asks how well features tell classes apart")
    return source if len(source) <= limit else take(source, torch.arange(limit))


def _all_features(run: LoadedRun, train: Source, test: Source, config: ProbeConfig) -> list[_Features]:
    means = _Features("posterior means", _means(run, train), _means(run, test))
    raw = _Features("input", _inputs(run, train), _inputs(run, test))
    dimensions = min(means.train.shape[1], *raw.train.shape)
    pca = PCA(dimensions, svd_solver="randomized", random_state=config.seed).fit(raw.train)
    principal = _Features("PCA of the input", pca.transform(raw.train), pca.transform(raw.test))
    return [means, principal, *([raw] if config.raw else [])]


def _judge(features: _Features, train_labels: Array, test_labels: Array, config: ProbeConfig) -> ProbeRow:
    nearest = KNeighborsClassifier(config.neighbours, algorithm="brute").fit(features.train, train_labels)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    linear.fit(features.train, train_labels)
    return ProbeRow(
        features=features.name,
        dimensions=features.train.shape[1],
        knn_accuracy=float(nearest.score(features.test, test_labels)),
        logistic_accuracy=float(linear.score(features.test, test_labels)),
    )


def _means(run: LoadedRun, source: Source) -> Array:
    return _array(run.encode(source)["mu"].flatten(1))


def _inputs(run: LoadedRun, source: Source) -> Array:
    """What the model reads, flattened; of sentences, whose lengths differ, how often each token occurs."""
    read = [micro.batch.x.flatten(1).cpu() for micro in run.batches(source)]
    if run.data.kind == "text":
        read = [_token_counts(tokens, run.data.inputs["num_tokens"]) for tokens in read]
    return _array(torch.cat([x.float() for x in read]))


def _token_counts(tokens: Tensor, num_tokens: int) -> Tensor:
    """Of sentences [B, T], padded: float32 [B, num_tokens]."""
    counts = torch.zeros(len(tokens), num_tokens).scatter_add_(1, tokens, torch.ones(tokens.shape))
    counts[:, PAD] = 0
    return counts


def _array(features: Tensor) -> Array:
    return np.ascontiguousarray(features.numpy(), dtype=np.float32)


def _labels(source: Source) -> Array:
    assert source.labels is not None
    return source.labels.numpy()
