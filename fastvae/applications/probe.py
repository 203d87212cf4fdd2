"""Evaluate a model's features by simple classifiers on posterior means, compared with PCA and the raw input."""

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
from fastvae.data.text.sentences import tokenizer_of
from fastvae.data.views import take
from fastvae.figures import save_maps
from fastvae.records import PAD
from fastvae.run import LoadedRun

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """The test accuracy of simple classifiers on one kind of feature."""

    features: str
    """Name of the features."""
    dimensions: int
    """Number of dimensions of a feature vector."""
    knn_accuracy: float
    """Accuracy of the nearest-neighbour classifier, in [0, 1]."""
    logistic_accuracy: float
    """Accuracy of the logistic regression, in [0, 1]."""


@dataclass(frozen=True)
class _Features:
    """One kind of feature, computed for the training and the test examples."""

    name: str
    train: Array  # [N, D]
    test: Array  # [M, D]


def probe(run: LoadedRun, config: ProbeConfig | None = None) -> list[ProbeRow]:
    """Compute accuracies on posterior means, on the same number of principal components of the input, and on the input.

    The input is the encoder's input: each example's x, flattened. For sentences it is the number of occurrences of each
    token.

    Args:
        run: a finished run on labelled data.
        config: how features are evaluated.

    Raises:
        ValueError: the data have no labels, labels of a single class, examples of different shapes, or too few
            examples; or the encoder is conditioned on the label.
    """
    config = config or ProbeConfig()
    train, test = _labelled(run, "train", config.num_train), _labelled(run, "test", config.num_test)
    if len(train) < config.neighbours:
        raise ValueError(f"probe: needs at least {config.neighbours} (neighbours) training examples, got {len(train)}")
    labels = [_labels(source) for source in (train, test)]
    if len(np.unique(labels[0])) < 2:
        raise ValueError(f"probe: needs at least 2 classes, got 1 in {len(train)} training examples")
    return [_judge(features, labels[0], labels[1], config) for features in _all_features(run, train, test, config)]


def write_maps(run: LoadedRun, path: Path, *, num_examples: int = 2000, seed: int = 0) -> Path:
    """Draw maps of the test examples in two dimensions (t-SNE, van der Maaten and Hinton 2008).

    One map is made from the posterior means, the other from the input.

    Args:
        run: a finished run on labelled data.
        path: the image file to write.
        num_examples: largest number of test examples to show; the first ones are used.
        seed: seed of t-SNE.

    Returns:
        ``path``.

    Raises:
        ValueError: there are fewer than 10 test examples, or the data have no labels.
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
    if conditions is not None and "label" in conditions.column_ranges:
        raise ValueError(
            "probe: this run's encoder is conditioned on the label, so its features contain the answer;"
            " probe a run that was trained without --data.condition label"
        )
    source = run.source(split)
    if source.labels is None:
        raise ValueError(f"probe: {run.data.name} has no labels; probing predicts labels from features")
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
    """The encoder's inputs, flattened; for sentences, whose lengths differ, the counts of their tokens."""
    read = [micro.batch.x.flatten(1).cpu() for micro in run.batches(source)]
    if run.data.kind == "text":
        read = [_token_counts(tokens, len(tokenizer_of(run.data))) for tokens in read]
    return _array(torch.cat([x.float() for x in read]))


def _token_counts(tokens: Tensor, num_tokens: int) -> Tensor:
    """The number of occurrences of each token in padded sentences [B, T], float32 [B, num_tokens]."""
    counts = torch.zeros(len(tokens), num_tokens).scatter_add_(1, tokens, torch.ones(tokens.shape))
    counts[:, PAD] = 0
    return counts


def _array(features: Tensor) -> Array:
    return np.ascontiguousarray(features.numpy(), dtype=np.float32)


def _labels(source: Source) -> Array:
    assert source.labels is not None
    return source.labels.numpy()
