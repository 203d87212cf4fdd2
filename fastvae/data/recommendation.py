"""The data of a recommender: which interactions count, who is held out, and what the items are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fastvae.data.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.dataset import Data, State
from fastvae.data.interactions import Counts, InteractionSource
from fastvae.data.order import order_index
from fastvae.data.ratings import Ratings, read_ratings, read_titles, titles_beside
from fastvae.data.source import Source


@dataclass(frozen=True, kw_only=True)
class InteractionsConfig:
    """Which interactions count, and which users are held out."""

    min_rating: float | None = None
    """Where the file has ratings: those below count for nothing; None counts every one. All others count once."""
    min_items: int = 5
    """Users with fewer items are left out."""
    test_share: float = 0.2
    """Part of the users that is held out for the test, in (0, 1)."""
    fold: int = 0
    """Which part: 0 .. 1 / test_share - 1; the folds share no user."""
    titles: Path | None = None
    """File with the items' titles; None looks beside the interactions for one."""

    def __post_init__(self) -> None:
        if not 0 < self.test_share <= 0.5:
            raise ValueError(f"InteractionsConfig: test_share must be in (0, 0.5], got {self.test_share}")
        if not 0 <= self.fold < self.num_folds or self.min_items < 1:
            raise ValueError(
                f"InteractionsConfig: fold must be in 0 .. {self.num_folds - 1} and min_items at least 1,"
                f" got {self.fold} and {self.min_items}"
            )

    @property
    def num_folds(self) -> int:
        """How many folds share no user."""
        return int(1 / self.test_share + 1e-9)


def load_interactions(path: Path, config: InteractionsConfig, *, seed: int, state: State, name: str) -> Data:
    """Training users, test users and the catalogue of the items that training users have.

    Args:
        path: a file with columns of users and items.
        config: which interactions count, who is held out.
        seed: which users are in which fold.
        state: what a run kept: its catalogue, which then stays as it is.
        name: how messages call the data.

    Raises:
        ValueError: the file is missing or unsuitable, or no users are left; the message says which rule is broken.
    """
    kept = Catalogue.from_bytes(state[CATALOGUE_FILE]) if CATALOGUE_FILE in state else None
    ratings = read_ratings(path, config.min_rating)
    users, items = _those_that_count(ratings, config, path)
    train, test = _fold(users, config, seed, path)
    catalogue = kept or _catalogue(ratings, np.unique(items[np.isin(users, train)]), path, config)
    sources = [_source(users, items, part, ratings, catalogue, name) for part in (train, test)]
    return interaction_data(name, sources[0], sources[1], {CATALOGUE_FILE: catalogue.to_bytes()})


def interaction_data(name: str, train: Source, test: Source, state: State) -> Data:
    """Data of users and items; ``state`` is what a run keeps of them."""
    return Data(name=name, train=train, test=test, preprocess=Counts(), kind="interactions", state=state)


def _those_that_count(
    ratings: Ratings, config: InteractionsConfig, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """User and item of each interaction that counts, once each, in the order of users and then of items."""
    if config.min_rating is not None and not ratings.has_ratings:
        raise ValueError(f"{path}: min_rating={config.min_rating} needs a column of ratings; set it to None")
    users, items = ratings.users.astype(np.int64), ratings.items.astype(np.int64)
    users, items = np.divmod(np.unique(users * len(ratings.item_ids) + items), len(ratings.item_ids))
    enough = np.bincount(users, minlength=len(ratings.user_ids)) >= config.min_items
    return users[enough[users]], items[enough[users]]


def _fold(
    users: NDArray[np.int64], config: InteractionsConfig, seed: int, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training users and test users: consecutive parts of one keyed order of all users."""
    known = np.unique(users)
    if len(known) < 2 * config.num_folds:
        raise ValueError(
            f"{path}: {len(known)} users have at least {config.min_items} items that count; {2 * config.num_folds} are"
            " needed to hold some out; lower min_items or min_rating"
        )
    order = known[order_index(np.arange(len(known)), len(known), seed)]
    first, stop = (len(order) * part // config.num_folds for part in (config.fold, config.fold + 1))
    return np.concatenate([order[:first], order[stop:]]), order[first:stop]


def _catalogue(ratings: Ratings, items: NDArray[np.int64], path: Path, config: InteractionsConfig) -> Catalogue:
    """The given items, in the order of the file, with their titles."""
    file = config.titles if config.titles is not None else titles_beside(path)
    titles = {} if file is None else read_titles(file)
    if config.titles is not None and not titles:
        raise ValueError(f"{file}: the first line must name a column of items and one of titles")
    ids = tuple(ratings.item_ids[item] for item in items)
    return Catalogue(ids, tuple(titles.get(identity, identity) for identity in ids))


def _source(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    chosen: NDArray[np.int64],
    ratings: Ratings,
    catalogue: Catalogue,
    name: str,
) -> InteractionSource:
    """The chosen users in their order, with those of their items that the catalogue has."""
    places = {identity: place for place, identity in enumerate(catalogue.ids)}
    column_of = np.array([places.get(identity, -1) for identity in ratings.item_ids])
    row_of = np.full(len(ratings.user_ids), -1)
    row_of[chosen] = np.arange(len(chosen))
    rows, columns = torch.from_numpy(row_of[users]), torch.from_numpy(column_of[items])
    known = (rows >= 0) & (columns >= 0)
    return InteractionSource.from_pairs(rows[known], columns[known], len(chosen), len(catalogue), name=name)
