"""Baselines of recommenders: the items' popularity, and EASE, a linear model in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from fastvae.data import Source
from fastvae.evaluate.ranking import evaluate_ranking

_USERS_AT_A_TIME = 512


class Popularity:
    """Recommend the most popular items to every user.

    Args:
        source: training users.
    """

    def __init__(self, source: Source) -> None:
        self.counts = _gram_diagonal(source)

    def __call__(self, fold_in: Tensor) -> Tensor:
        """The score of each item, [B, V], the same for all users."""
        return self.counts.expand(fold_in.shape[0], -1)


class EASE:
    """EASE (Steck 2019, arXiv 1905.03375): ridge regression of each item on all others, in closed form.

    ``B = I - P / diag(P)`` with ``P = (X^T X + l2 I)^-1`` (equation 8); it needs V x V floats.

    Args:
        gram: number of training users with both items, [V, V], see `gram`.
        l2: the only hyperparameter.
    """

    def __init__(self, gram: Tensor, l2: float = 200.0) -> None:
        regularised = gram.to(torch.float64, copy=True)
        regularised.diagonal().add_(l2)
        precision = torch.linalg.inv(regularised)
        del regularised  # V x V floats limit the size of catalogues
        precision /= -precision.diagonal()
        self.weights = precision.fill_diagonal_(0).float()  # [V, V]

    def __call__(self, fold_in: Tensor) -> Tensor:
        """The score of each item, [B, V], from what each user has."""
        offsets, items = fold_in.crow_indices()[:-1], fold_in.col_indices()
        return embedding_bag(items, self.weights, offsets, mode="sum", per_sample_weights=fold_in.values())


def ease_gib(num_items: int) -> float:
    """Return the approximate peak memory of `gram` and `EASE` in GiB: four matrices V x V of float64."""
    return 4 * 8 * num_items**2 / 2**30


def gram(source: Source) -> Tensor:
    """Return the number of users with both items, float64 [V, V]."""
    total = torch.zeros(2 * source.event_shape, dtype=torch.float64)
    for first in range(0, len(source), _USERS_AT_A_TIME):
        rows = source[torch.arange(first, min(first + _USERS_AT_A_TIME, len(source)))].to_dense()
        total += rows.T @ rows
    return total


def choose_l2(train: Source, validation: Source, candidates: tuple[float, ...], *, seed: int = 0) -> float:
    """Return the candidate of best NDCG@100 of EASE on the validation users' held-out items."""
    counts = gram(train)
    return max(candidates, key=lambda l2: evaluate_ranking(EASE(counts, l2), validation, seed=seed).ndcg_100.mean)


def _gram_diagonal(source: Source) -> Tensor:
    counts = torch.zeros(source.event_shape)
    for first in range(0, len(source), _USERS_AT_A_TIME):
        rows = source[torch.arange(first, min(first + _USERS_AT_A_TIME, len(source)))]
        counts.index_add_(0, rows.col_indices(), rows.values())
    return counts
