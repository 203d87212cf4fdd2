"""Users and items by name and by path: what the registry of data calls."""

from __future__ import annotations

from pathlib import Path

import torch

from fastvae.data.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.interactions import InteractionSource
from fastvae.data.movielens import locate_movielens
from fastvae.data.ratings import read_ratings
from fastvae.data.recommendation import load_interactions


def load_movielens(config: DataConfig, seed: int, state: State) -> Data:
    """MovieLens-100K; a run that keeps its catalogue needs the ratings no more."""
    kept = CATALOGUE_FILE in state
    try:
        path = locate_movielens(config.dir, download=config.download and not kept)
    except ValueError:
        if not kept:
            raise
        path = Path(CATALOGUE_FILE)
    return load_interactions(path, config.interactions, seed=seed, state=state, name=config.name)


def load_own_interactions(config: DataConfig, seed: int, state: State) -> Data:
    """A CSV, TSV or ``.inter`` file of users and items."""
    assert config.path is not None  # DataConfig saw to it
    path = config.path.expanduser()
    return load_interactions(path, config.interactions, seed=seed, state=state, name=path.stem)


def read_own_interactions(path: Path, config: DataConfig, state: State) -> InteractionSource:
    """Every user of a file, as they first appear in it, with those of their items that a run's catalogue has."""
    return read_users(path, Catalogue.from_bytes(state[CATALOGUE_FILE]))[0]


def read_users(path: Path, catalogue: Catalogue) -> tuple[InteractionSource, tuple[str, ...]]:
    """The users of a file with their items of the catalogue, and the users' ids.

    Raises:
        ValueError: the file names no users and items, or none of its items is in the catalogue.
    """
    ratings = read_ratings(path)
    places = {identity: place for place, identity in enumerate(catalogue.ids)}
    column_of = torch.tensor([places.get(identity, -1) for identity in ratings.item_ids])
    columns = column_of[torch.tensor(ratings.items)]
    known = columns >= 0
    if not known.any():
        raise ValueError(f"{path}: none of its {len(ratings.item_ids)} items is in the run's catalogue, by their ids")
    users = torch.tensor(ratings.users)[known]
    num_users = len(ratings.user_ids)
    source = InteractionSource.from_pairs(users, columns[known], num_users, len(catalogue), name=str(path))
    return source, ratings.user_ids
