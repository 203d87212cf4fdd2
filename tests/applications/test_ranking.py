from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fastvae.applications.recommendation.baselines import EASE, Popularity, choose_l2, gram
from fastvae.data.interactions.source import InteractionSource, hold_out
from fastvae.evaluate.ranking import evaluate_ranking, ndcg_ratio, ranking_figures, top_items


def users_of(num: int = 40, items: int = 60, seed: int = 0) -> InteractionSource:
    """Return users of two groups: each prefers one half of the items."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.arange(num).repeat_interleave(12)
    halves = torch.randint(0, items // 2, users.shape, generator=generator) + (users % 2) * (items // 2)
    return InteractionSource.from_pairs(users, halves, num, items)


def row(items: list[int], num: int = 130) -> Tensor:
    return InteractionSource.from_pairs(
        torch.zeros(len(items), dtype=torch.int64), torch.tensor(items, dtype=torch.int64), 1, num
    )[torch.arange(1)]


def test_metrics_agree_with_values_by_hand() -> None:
    scores = -torch.arange(130.0).unsqueeze(0)  # item 0 is the best
    figures = ranking_figures(scores, row([0, 1]), row([2, 5, 40]))[0]
    # Without items 0 and 1 the ranks are 1, 4 and 39.
    dcg = 1 + 1 / math.log2(5) + 1 / math.log2(40)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    torch.testing.assert_close(figures, torch.tensor([2 / 3, 1.0, dcg / ideal], dtype=torch.float64))


def test_recall_is_divided_by_at_most_k_and_users_without_items_are_excluded() -> None:
    scores = -torch.arange(130.0).unsqueeze(0)
    figures = ranking_figures(scores, row([129]), row(list(range(40))))[0]
    torch.testing.assert_close(figures, torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64))
    assert ranking_figures(scores, row([1]), row([])).isnan().all()


def test_items_of_the_user_are_last_and_ties_keep_their_order() -> None:
    assert top_items(torch.zeros(1, 6), row([1, 2], 6), 6).tolist() == [[0, 3, 4, 5, 1, 2]]


@pytest.mark.parametrize("num", [1, 7, 30, 60, 99])
def test_equal_scores_are_ranked_as_a_stable_sort_would(num: int) -> None:
    counts = users_of()[torch.arange(40)]
    scores = torch.randint(0, 4, (40, 60), generator=torch.Generator().manual_seed(num)).float()
    masked = scores.masked_fill(counts.to_dense() > 0, -math.inf)
    expected = masked.sort(dim=1, descending=True, stable=True).indices[:, :num]
    assert torch.equal(top_items(scores, counts, num), expected)


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="top_items: scores must be numbers"):
        top_items(torch.tensor([[0.0, math.nan, 1.0]]), row([0], 3), 2)


def test_against_a_dense_reimplementation() -> None:
    source = users_of()
    split = hold_out(source[torch.arange(40)], 0)
    scores = torch.rand(40, 60, generator=torch.Generator().manual_seed(1))
    masked = scores.masked_fill(split.fold_in.to_dense() > 0, -math.inf).numpy()
    held_out = split.held_out.to_dense().numpy()
    ranked = np.take_along_axis(held_out, np.argsort(-masked, axis=1), 1)
    discount = 1 / np.log2(np.arange(2, 62))
    total = held_out.sum(1)
    expected = [ranked[:, :20].sum(1) / np.minimum(total, 20), ranked[:, :50].sum(1) / np.minimum(total, 50)]
    expected.append((ranked * discount).sum(1) / np.array([discount[: int(n)].sum() for n in total]))
    np.testing.assert_allclose(ranking_figures(scores, split.fold_in, split.held_out), np.stack(expected, 1))


def test_metrics_do_not_depend_on_the_batch_size() -> None:
    source = users_of()
    scorer = Popularity(source)
    assert evaluate_ranking(scorer, source, batch_size=7) == evaluate_ranking(scorer, source, batch_size=500)
    assert evaluate_ranking(scorer, source).num_users == 40
    parts: list[Tensor] = []

    def reduce(part: Tensor) -> Tensor:
        parts.append(part)
        return torch.stack(parts).sum(0)

    for rank in (1, 0):
        split = evaluate_ranking(scorer, source, batch_size=7, rank=rank, world_size=2, all_reduce_sum=reduce)
    assert split == evaluate_ranking(scorer, source)
    few = InteractionSource.from_pairs(torch.zeros(3, dtype=torch.int64), torch.arange(3), 1, 60)
    with pytest.raises(ValueError, match="no user has 5 items"):
        evaluate_ranking(scorer, few)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others() -> None:
    source = users_of()
    x = source[torch.arange(40)].to_dense().double()
    weights = EASE(gram(source), 30.0).weights
    for item in (0, 17, 59):
        others = [other for other in range(60) if other != item]
        a = x[:, others]
        solution = torch.linalg.solve(a.T @ a + 30 * torch.eye(59, dtype=torch.float64), a.T @ x[:, item])
        torch.testing.assert_close(weights[others, item].double(), solution, atol=1e-6, rtol=1e-4)
        assert weights[item, item] == 0


def test_ease_beats_popularity_where_tastes_differ() -> None:
    train, test = users_of(200, seed=1), users_of(60, seed=2)
    ease = EASE(gram(train), choose_l2(train, users_of(40, seed=3), (10.0, 1000.0)))
    assert evaluate_ranking(ease, test).ndcg_100.mean > evaluate_ranking(Popularity(train), test).ndcg_100.mean + 0.05


def test_the_ratio_to_a_rival_is_paired_by_users() -> None:
    train, test = users_of(200, seed=1), users_of(60, seed=2)
    popularity, ease = (evaluate_ranking(score, test) for score in (Popularity(train), EASE(gram(train), 100.0)))
    assert float(ease.ndcg_100_of_users.mean()) == pytest.approx(ease.ndcg_100.mean)
    same = ndcg_ratio([ease, ease], [ease, ease])
    assert (same.mean, same.standard_error) == (1.0, 0.0)
    ratio = ndcg_ratio([ease], [popularity])
    assert ratio.mean == pytest.approx(ease.ndcg_100.mean / popularity.ndcg_100.mean)
    # The delta method: the standard error of mean(x - ratio * y) / mean(y).
    x, y = ease.ndcg_100_of_users, popularity.ndcg_100_of_users
    expected = float((x - ratio.mean * y).std() / y.mean() / math.sqrt(len(x)))
    assert ratio.standard_error == pytest.approx(expected, rel=0.1)
    with pytest.raises(ValueError, match="same users, got 60 and 40"):
        ndcg_ratio([ease], [evaluate_ranking(Popularity(train), users_of())])
