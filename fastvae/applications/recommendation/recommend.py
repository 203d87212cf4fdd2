"""Applications of a trained recommender: recommend items to a user, find similar items, compare with baselines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from fastvae.applications.config import MAX_EASE_GIB
from fastvae.applications.recommendation.baselines import EASE, Popularity, choose_l2, ease_gib, gram
from fastvae.applications.recommendation.serving import USERS_AT_A_TIME, top_of_users
from fastvae.data import Data, DataConfig
from fastvae.data.interactions.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.interactions.source import InteractionSource
from fastvae.data.interactions.users import read_users
from fastvae.data.loading.staging import csr
from fastvae.data.views import SubsetSource
from fastvae.evaluate.ranking import Ranking, Scorer, evaluate_ranking, model_scorer, top_items
from fastvae.models import VAE, AutoEncoder
from fastvae.run import LoadedRun

_L2 = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)  # EASE's l2 regularisation, chosen on validation users
_VALIDATION_PERIOD = 10  # every 10th training user is a validation user


@dataclass(frozen=True)
class Suggestion:
    """A suggested item and its score."""

    title: str
    """The item's title."""
    id: str
    """The item's id in the catalogue."""
    score: float
    """The probability that the item is chosen next, or the cosine similarity of two items."""


class Recommender:
    """A trained Mult-VAE or Mult-DAE with the catalogue of its items.

    Args:
        model: a model in evaluation mode whose ``reconstruct`` returns item probabilities.
        catalogue: the model's items.
        config: how files of users are read, in particular which ratings count; use the run's training settings.
    """

    def __init__(self, model: VAE | AutoEncoder, catalogue: Catalogue, config: DataConfig | None = None) -> None:
        self.model, self.catalogue, self.config = model, catalogue, config or DataConfig()

    @classmethod
    def of_run(cls, run: LoadedRun) -> Recommender:
        """The recommender of a finished run.

        Raises:
            ValueError: the run did not train a recommender.
        """
        if run.data.kind != "interactions" or not isinstance(run.model, (VAE, AutoEncoder)):
            raise ValueError(
                f"{run.directory} is not a recommender: its data are of kind {run.data.kind}; train a recommender with"
                " `fastvae train recommender --data.path FILE`"
            )
        return cls(run.model, catalogue_of(run.data), run.config.data)

    @torch.no_grad()
    def __call__(self, counts: Tensor) -> Tensor:
        """Item probabilities [B, V] for B users, given their items as ``torch.sparse_csr`` counts [B, V]."""
        return model_scorer(self.model)(counts)

    def recommend(self, items: Sequence[str], num: int = 10) -> list[Suggestion]:
        """Recommend items to a user who has the given ones.

        Args:
            items: titles or ids.
            num: the number of recommendations.

        Raises:
            ValueError: no items are given, or an item is not in the catalogue.
        """
        columns = sorted({self.catalogue.find(item) for item in items if item.strip()})
        if not columns:
            raise ValueError("recommend: needs at least one item, got none; give a title, for example 'Toy Story'")
        counts = csr(
            torch.tensor([0, len(columns)]), torch.tensor(columns), torch.ones(len(columns)), len(self.catalogue)
        )
        return next(self.recommend_all(counts, num))

    def recommend_all(self, counts: Tensor, num: int = 10) -> Iterator[list[Suggestion]]:
        """Recommend items to each of B users, given their items as ``torch.sparse_csr`` counts [B, V]."""
        scores = self(counts)
        known = counts.crow_indices().diff()
        for row, items in enumerate(top_items(scores, counts, num)):
            new = items[: len(self.catalogue) - int(known[row])]  # items that the user already has are ranked last
            yield [self._suggestion(item, float(scores[row, item])) for item in new.tolist()]

    def top(
        self, users: Any, num: int = 10, *, block: int = USERS_AT_A_TIME
    ) -> Iterator[tuple[NDArray[np.str_], NDArray[np.float32]]]:
        """The best items of many users, in blocks: new users need no training, only their items.

        Args:
            users: a scipy sparse matrix [N, V], whose columns are in the order of the catalogue and whose non-zero
                entries are the items that a user has (ratings are not compared with the run's minimum), or a list of
                the IDs of each user's items, such as ``[["50", "172"], ["1"]]``.
            num: number of items per user, at least 1.
            block: number of users at a time; results do not depend on it.

        Returns:
            Blocks of IDs [B, num] and probabilities [B, num] of the next users, best first. Items that a user has come
            last, with probability -inf.

        Raises:
            ValueError: the matrix has another number of columns, or ``num`` or ``block`` is out of range; while the
                blocks are read: a user has no items, or an ID is not in the catalogue.
            TypeError: ``users`` is something else.
        """
        return top_of_users(self, self.catalogue, users, num, block)

    def similar(self, item: str, num: int = 10) -> list[Suggestion]:
        """Find the items whose vectors have the largest cosine similarity to this item's.

        An item's vector is its row of the decoder's last layer, see `item_vectors`.

        Args:
            item: a title or an id.
            num: the number of similar items.

        Raises:
            ValueError: the item is not in the catalogue.
        """
        index = self.catalogue.find(item)
        vectors = item_vectors(self.model)
        cosines = vectors @ vectors[index]
        cosines[index] = -torch.inf
        order = torch.sort(cosines, descending=True, stable=True).indices[: min(num, len(cosines) - 1)]
        return [self._suggestion(other, float(cosines[other])) for other in order.tolist()]

    def _suggestion(self, item: int, score: float) -> Suggestion:
        return Suggestion(self.catalogue.titles[item], self.catalogue.ids[item], score)


def catalogue_of(data: Data) -> Catalogue:
    """The catalogue of the data's items."""
    return Catalogue.from_bytes(data.state[CATALOGUE_FILE])


@torch.no_grad()
def item_vectors(model: nn.Module) -> Tensor:
    """A unit vector for each item, [V, H]: the rows of the decoder's last layer, centred and normalised.

    Without centring, the mean, which all items share, would make every two items similar.
    """
    weight: Tensor = model.decoder.output.weight.detach().float().cpu()  # type: ignore[union-attr,operator]
    return normalize(weight - weight.mean(0), dim=1)


def write_recommendations(recommender: Recommender, data: Path, out: Path, num: int = 10) -> int:
    """Write recommendations for every user of an interactions file as CSV: user, rank, item, title, probability.

    If the file has ratings, those below training's minimum are ignored, so their items can be recommended.

    Args:
        recommender: the recommender.
        data: the interactions file.
        out: the CSV file to write.
        num: the number of recommendations per user.

    Returns:
        The number of users.

    Raises:
        ValueError: the file has no user or item column, or none of the items that count is in the catalogue.
    """
    users, names = read_users(data, recommender.catalogue, recommender.config)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user", "rank", "item", "title", "probability"])
        for first in range(0, len(users), USERS_AT_A_TIME):
            chunk = torch.arange(first, min(first + USERS_AT_A_TIME, len(users)))
            for user, suggestions in zip(chunk.tolist(), recommender.recommend_all(users[chunk], num), strict=True):
                writer.writerows(
                    (names[user], rank, s.id, s.title, f"{s.score:.6g}") for rank, s in enumerate(suggestions, start=1)
                )
    return len(users)


def compare(
    recommender: Recommender,
    data: Data,
    *,
    name: str = "this run",
    rivals: Mapping[str, Scorer] | None = None,
    seed: int = 0,
    max_gib: float = MAX_EASE_GIB,
) -> dict[str, Ranking]:
    """Rank the test users' held-out items by popularity, by EASE and by the recommender.

    EASE's l2 regularisation is chosen on a part of the training users.

    Args:
        recommender: the trained recommender.
        data: its training and test users.
        name: the recommender's name in the result.
        rivals: additional recommenders by name.
        seed: seed of the choice of held-out items.
        max_gib: largest amount of memory that EASE may use; see `why_no_ease`.

    Returns:
        The ranking metrics of each recommender by name.
    """
    scorers: dict[str, Scorer] = {"popularity": Popularity(data.train)}
    if why_no_ease(data, max_gib) is None:
        users = torch.arange(len(data.train))
        is_validation = users % _VALIDATION_PERIOD == 0  # a random subset, because the order of users is shuffled
        fit, validation = (SubsetSource(data.train, users[part]) for part in (~is_validation, is_validation))
        l2 = choose_l2(fit, validation, _L2, seed=seed)
        scorers[f"EASE (l2 {l2:g})"] = EASE(gram(data.train), l2)
    scorers |= {name: recommender, **(rivals or {})}
    return {label: evaluate_ranking(scorer, data.test, seed=seed) for label, scorer in scorers.items()}


def why_no_ease(data: Data, max_gib: float = MAX_EASE_GIB) -> str | None:
    """The reason why `compare` omits EASE (its items x items matrices are too large), or None if it is included."""
    num_items = data.event_shape[0]
    if ease_gib(num_items) <= max_gib:
        return None
    return (
        f"EASE is omitted: its matrices of {num_items} x {num_items} items need {ease_gib(num_items):.3g} GiB,"
        f" the limit is {max_gib:g} GiB"
    )


def held_out_line(data: Data, config: DataConfig) -> str:
    """Say which items of each test user are held out and ranked."""
    if isinstance(data.test, InteractionSource) and data.test.recency is not None:
        return f"held out: the newest fifth of each test user's items, by {config.interactions.time}"
    return "held out: a random fifth of each test user's items"


def comparison_table(rankings: dict[str, Ranking]) -> str:
    """A table of Recall@20, Recall@50 and NDCG@100 with standard errors, one recommender per line."""
    width = max(map(len, rankings))
    lines = [f"{'':{width}}  {'Recall@20':>15}  {'Recall@50':>15}  {'NDCG@100':>15}  users"]
    for name, ranking in rankings.items():
        figures = (ranking.recall_20, ranking.recall_50, ranking.ndcg_100)
        cells = "  ".join(f"{figure.mean:.4f} +- {figure.standard_error:.4f}" for figure in figures)
        lines.append(f"{name:{width}}  {cells}  {ranking.num_users}")
    return "\n".join(lines)
