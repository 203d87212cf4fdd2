"""What a trained recommender is asked: items for a person, items like an item, and how good it is."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fastvae.applications.config import MAX_EASE_GIB
from fastvae.data import Data, DataConfig
from fastvae.data.interactions.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.interactions.users import read_users
from fastvae.data.loading.staging import csr
from fastvae.data.views import SubsetSource
from fastvae.evaluate.item_baselines import EASE, Popularity, choose_l2, ease_gib, gram
from fastvae.evaluate.ranking import Ranking, Scorer, evaluate_ranking, top_items
from fastvae.models import VAE, AutoEncoder
from fastvae.run import LoadedRun

_USERS_AT_A_TIME = 500
_L2 = (50.0, 100.0, 200.0, 400.0, 800.0)  # EASE's, of which validation users choose
_VALIDATION_PERIOD = 10  # one in so many training users chooses it


@dataclass(frozen=True)
class Suggestion:
    """An item, and how well it fits."""

    title: str
    id: str
    score: float  # the probability of the next choice, or the cosine of two items


class Recommender:
    """A trained Mult-VAE or Mult-DAE and the catalogue of its items.

    Args:
        model: in evaluation mode; its ``reconstruct`` gives probabilities of items.
        catalogue: its items.
        config: how files of users are read: which ratings count, as in training.
    """

    def __init__(self, model: VAE | AutoEncoder, catalogue: Catalogue, config: DataConfig | None = None) -> None:
        self.model, self.catalogue, self.config = model, catalogue, config or DataConfig()

    @classmethod
    def of_run(cls, run: LoadedRun) -> Recommender:
        """That of a finished run.

        Raises:
            ValueError: the run is not one of a recommender.
        """
        if run.data.kind != "interactions" or not isinstance(run.model, (VAE, AutoEncoder)):
            raise ValueError(
                f"{run.directory} is no recommender: its data are of kind {run.data.kind}; train one with"
                " `fastvae train movielens-100k`"
            )
        return cls(run.model, catalogue_of(run.data), run.config.data)

    @torch.no_grad()
    def __call__(self, counts: Tensor) -> Tensor:
        """The probability of each item [B, V] for users who have these items, ``torch.sparse_csr`` [B, V]."""
        device = next(self.model.parameters()).device
        return self.model.reconstruct(counts.to(device)).to(counts.device)

    def recommend(self, items: Sequence[str], num: int = 10) -> list[Suggestion]:
        """The best items for somebody who has these, by title or id.

        Raises:
            ValueError: no items are given, or one is not in the catalogue.
        """
        columns = sorted({self.catalogue.find(item) for item in items if item.strip()})
        if not columns:
            raise ValueError("recommend: at least one item must be given, such as 'Toy Story'; got none")
        counts = csr(
            torch.tensor([0, len(columns)]), torch.tensor(columns), torch.ones(len(columns)), len(self.catalogue)
        )
        return next(self.recommend_all(counts, num))

    def recommend_all(self, counts: Tensor, num: int = 10) -> Iterator[list[Suggestion]]:
        """The best items for each of many users, given as ``torch.sparse_csr`` counts [B, V]."""
        scores = self(counts)
        known = counts.crow_indices().diff()
        for row, items in enumerate(top_items(scores, counts, num)):
            new = items[: len(self.catalogue) - int(known[row])]  # what a user has comes last
            yield [self._suggestion(item, float(scores[row, item])) for item in new.tolist()]

    def similar(self, item: str, num: int = 10) -> list[Suggestion]:
        """The items whose vectors point in the direction of this one's, by cosine.

        An item's vector is its row of the decoder's last layer: what the model matches a user's taste with.

        Raises:
            ValueError: the item is not in the catalogue.
        """
        place = self.catalogue.find(item)
        vectors = item_vectors(self.model)
        cosines = vectors @ vectors[place]
        cosines[place] = -torch.inf
        order = torch.sort(cosines, descending=True, stable=True).indices[: min(num, len(cosines) - 1)]
        return [self._suggestion(other, float(cosines[other])) for other in order.tolist()]

    def _suggestion(self, item: int, score: float) -> Suggestion:
        return Suggestion(self.catalogue.titles[item], self.catalogue.ids[item], score)


def catalogue_of(data: Data) -> Catalogue:
    """The items of the data."""
    return Catalogue.from_bytes(data.state[CATALOGUE_FILE])


@torch.no_grad()
def item_vectors(model: nn.Module) -> Tensor:
    """A vector of length 1 for each item, [V, H]: the rows of the decoder's last layer, less their mean.

    The mean is what all items share, and would make every pair of them alike.
    """
    weight: Tensor = model.decoder.output.weight.detach().float().cpu()  # type: ignore[union-attr,operator]
    return normalize(weight - weight.mean(0), dim=1)


def write_recommendations(recommender: Recommender, data: Path, out: Path, num: int = 10) -> int:
    """The best items for every user of a file of interactions, as CSV: user, rank, item, title, probability.

    Where the file has ratings, those too low to count in training count for nothing here; such an item is new.

    Returns:
        How many users there are.

    Raises:
        ValueError: the file names no users and items, or none of its items that count is in the catalogue.
    """
    users, names = read_users(data, recommender.catalogue, recommender.config)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user", "rank", "item", "title", "probability"])
        for first in range(0, len(users), _USERS_AT_A_TIME):
            chunk = torch.arange(first, min(first + _USERS_AT_A_TIME, len(users)))
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
    """Popularity, EASE and the run on the test users' held-out items, by name; training users choose EASE's l2.

    Args:
        recommender: the run's.
        data: its training users, and its test users.
        name: what it is called in the result.
        rivals: more recommenders, by name.
        seed: which items are held out.
        max_gib: the most memory that EASE may take; see `why_no_ease`.
    """
    scorers: dict[str, Scorer] = {"popularity": Popularity(data.train)}
    if why_no_ease(data, max_gib) is None:
        users = torch.arange(len(data.train))
        is_validation = users % _VALIDATION_PERIOD == 0  # the order of users is keyed: these are drawn at random
        fit, validation = (SubsetSource(data.train, users[part]) for part in (~is_validation, is_validation))
        l2 = choose_l2(fit, validation, _L2, seed=seed)
        scorers[f"EASE (l2 {l2:g})"] = EASE(gram(data.train), l2)
    scorers |= {name: recommender, **(rivals or {})}
    return {label: evaluate_ranking(scorer, data.test, seed=seed) for label, scorer in scorers.items()}


def why_no_ease(data: Data, max_gib: float = MAX_EASE_GIB) -> str | None:
    """Why `compare` leaves EASE out: its matrices of items x items are too large; None where they are not."""
    num_items = data.event_shape[0]
    if ease_gib(num_items) <= max_gib:
        return None
    return (
        f"EASE is left out: its matrices of {num_items} x {num_items} items would take {ease_gib(num_items):.3g} GiB,"
        f" and may take {max_gib:g}"
    )


def comparison_table(rankings: dict[str, Ranking]) -> str:
    """Recall@20, Recall@50 and NDCG@100 with their standard errors, a recommender a line."""
    width = max(map(len, rankings))
    lines = [f"{'':{width}}  {'Recall@20':>15}  {'Recall@50':>15}  {'NDCG@100':>15}  users"]
    for name, ranking in rankings.items():
        figures = (ranking.recall_20, ranking.recall_50, ranking.ndcg_100)
        cells = "  ".join(f"{figure.mean:.4f} +- {figure.standard_error:.4f}" for figure in figures)
        lines.append(f"{name:{width}}  {cells}  {ranking.num_users}")
    return "\n".join(lines)
