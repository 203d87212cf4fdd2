"""Ranking metrics of recommenders by the published protocol, on users who are not in the training set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from fastvae.data import Source
from fastvae.data.interactions.source import InteractionSource, hold_out
from fastvae.generative import AnyModel
from fastvae.nn.bag import rows_of
from fastvae.records import Batch

Reduce = Callable[[Tensor], Tensor]  # the sum of a tensor over all ranks
Scorer = Callable[[Tensor], Tensor]  # fold-in counts, torch.sparse_csr [B, V], to a score of each item, [B, V]

RECALL_AT = (20, 50)
NDCG_AT = 100
_RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A mean over users, and its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class Ranking:
    """Recall@20, Recall@50 and NDCG@100 over the users with held-out items."""

    recall_20: Figure
    recall_50: Figure
    ndcg_100: Figure
    num_users: int
    ndcg_100_of_users: Tensor = field(compare=False, repr=False)
    """NDCG@100 of each of these users, float64 [num_users]."""


@torch.no_grad()
def evaluate_ranking(
    score: Scorer,
    source: Source,
    *,
    share: float = 0.2,
    seed: int = 0,
    batch_size: int = 500,
    rank: int = 0,
    world_size: int = 1,
    all_reduce_sum: Reduce | None = None,
) -> Ranking:
    """Fold in most of each user's items, rank the remaining ones among all others (Liang et al. 2018, section 4.2).

    Random items are held out, or each user's newest ones if the source knows their times.

    Args:
        score: the recommender.
        source: held-out users, an `InteractionSource`.
        share: fraction of each user's items that is held out.
        seed: seed of the split, which is a function of user and item and thus the same for every recommender.
        batch_size: number of users at a time; results do not depend on it.
        rank, world_size: which of the batches this process ranks.
        all_reduce_sum: sums a tensor over all processes; None for a single one.

    Raises:
        ValueError: no user has enough items to hold one out.
    """
    figures = torch.zeros(len(source), 3, dtype=torch.float64)
    for first in range(rank * batch_size, len(source), world_size * batch_size):
        users = torch.arange(first, min(first + batch_size, len(source)))
        recency = source.recency_of(users) if isinstance(source, InteractionSource) else None
        split = hold_out(source[users], first, share=share, seed=seed, recency=recency)
        figures[users] = ranking_figures(score(split.fold_in), split.fold_in, split.held_out)
    if all_reduce_sum is not None:
        figures = all_reduce_sum(figures)  # exact: each row is that of one process, and 0 in the others
    figures = figures[~figures[:, 0].isnan()]
    if not len(figures):
        raise ValueError(f"evaluate_ranking: no user has {math.ceil(1 / share)} items, as needed to hold one out")
    error = figures.std(0, correction=0) / math.sqrt(len(figures))
    recall_20, recall_50, ndcg_100 = map(Figure, figures.mean(0).tolist(), error.tolist())
    return Ranking(recall_20, recall_50, ndcg_100, len(figures), figures[:, 2])


def model_scorer(model: nn.Module) -> Scorer:
    """Return a scorer by the item probabilities of a recommender's ``reconstruct``; see `GenerativeModel`."""
    device, able = next((p.device for p in model.parameters()), torch.device("cpu")), AnyModel(model)

    def score(fold_in: Tensor) -> Tensor:
        counts = fold_in.to(device)
        return able.reconstruct(Batch(x=counts, target=counts)).to(fold_in.device)

    return score


def ndcg_ratio(rankings: Sequence[Ranking], rivals: Sequence[Ranking], *, seed: int = 0) -> Figure:
    """Return NDCG@100 relative to a rival's on the same users, and its standard error by a paired bootstrap.

    Users are drawn with replacement (1000 times), each with both recommenders' values (Efron and Tibshirani 1993, "An
    introduction to the bootstrap", chapter 6). The error therefore omits the differences between users that both share;
    it does not include those between trainings on other data.

    Args:
        rankings: results of the recommender, one for each split.
        rivals: results of the other one, of the same splits.
        seed: seed of the draws.

    Raises:
        ValueError: the two have different numbers of users.
    """
    ours, theirs = (torch.cat([each.ndcg_100_of_users for each in part]).numpy() for part in (rankings, rivals))
    if len(ours) != len(theirs):
        raise ValueError(f"ndcg_ratio: both must rank for the same users, got {len(ours)} and {len(theirs)} users")
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(0, len(ours), len(ours)) for _ in range(_RESAMPLES)]
    ratios = [ours[users].mean() / theirs[users].mean() for users in drawn]
    return Figure(float(ours.mean() / theirs.mean()), float(np.std(ratios, ddof=1)))


def ranking_figures(scores: Tensor, fold_in: Tensor, held_out: Tensor) -> Tensor:
    """Recall@20, Recall@50 and NDCG@100 of each user, float64 [B, 3]; NaN for a user without held-out items.

    Recall is divided by ``min(k, number held out)``; NDCG has gains of 0 and 1 and a discount of 1 / log2(rank + 1).

    Args:
        scores: [B, V], larger is better; items that were folded in are not ranked.
        fold_in: ``torch.sparse_csr`` [B, V].
        held_out: ``torch.sparse_csr`` [B, V].
    """
    ranked = top_items(scores, fold_in, NDCG_AT)
    hits = _contains(held_out, ranked).double()
    num_held_out = held_out.crow_indices().diff().double()
    recalls = [hits[:, :k].sum(1) / num_held_out.clamp(max=k) for k in RECALL_AT]
    discount = 1 / torch.log2(torch.arange(2, NDCG_AT + 2, dtype=torch.float64, device=scores.device))
    ideal = torch.cat([discount.new_zeros(1), discount.cumsum(0)])[num_held_out.clamp(max=NDCG_AT).long()]
    ndcg = (hits * discount[: hits.shape[1]]).sum(1) / ideal
    return torch.stack([*recalls, ndcg], dim=1)


def top_items(scores: Tensor, known: Tensor, num: int) -> Tensor:
    """Return the best items that a user does not have, int64 [B, min(num, V)], best first; ties by index.

    Args:
        scores: [B, V].
        known: ``torch.sparse_csr`` [B, V], items of each user, which come last.
        num: number of items, at least 1.

    Raises:
        ValueError: a score is NaN.
    """
    scores = scores.clone()
    items = known.col_indices()
    scores[rows_of(known.crow_indices(), len(items)), items] = -torch.inf
    num = min(num, scores.shape[1])
    best, items = scores.topk(min(num + 1, scores.shape[1]), dim=1)
    items = items[:, :num]
    if bool(best.isnan().any()):
        raise ValueError("top_items: scores must be numbers to be ranked, got NaN; did the training fail?")
    # topk breaks ties arbitrarily; for the same order on every machine, the first items are used.
    worst = best[:, num - 1 : num]
    is_cut = (best[:, num:] == worst).any(1)  # some items with the last score are omitted
    items[is_cut] = _first_of_equals(scores[is_cut], worst[is_cut], num)
    items = items.sort(dim=1).values
    order = scores.gather(1, items).sort(dim=1, descending=True, stable=True).indices
    return items.gather(1, order)


def _first_of_equals(scores: Tensor, worst: Tensor, num: int) -> Tensor:
    """The items [B, num] above the worst score [B, 1], and as many of those equal to it as fit, ascending."""
    above, equal = scores > worst, scores == worst
    taken = above | (equal & (equal.cumsum(1) <= num - above.sum(1, keepdim=True)))
    return taken.nonzero()[:, 1].view(-1, num)


def _contains(counts: Tensor, items: Tensor) -> Tensor:
    """Whether each user's row of counts has each of the items [B, K]: bool [B, K], without a dense row."""
    num_rows, num_items = counts.shape
    if not counts.values().numel():
        return torch.zeros_like(items, dtype=torch.bool)
    columns = counts.col_indices()
    places = rows_of(counts.crow_indices(), len(columns)) * num_items + columns  # ascending
    wanted = torch.arange(num_rows, device=items.device)[:, None] * num_items + items
    found = torch.searchsorted(places, wanted).clamp(max=len(places) - 1)
    return places[found] == wanted
