"""Users and items by name and by path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.interactions.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.interactions.files import Interactions, interactions_of, read_interactions
from fastvae.data.interactions.movielens import locate_movielens
from fastvae.data.interactions.recommendation import columns_of, load_interactions
from fastvae.data.interactions.source import InteractionSource
from fastvae.data.objects import is_sparse


def load_movielens(config: DataConfig, seed: int, state: State) -> Data:
    """MovieLens-100K. A finished run, which keeps its catalogue, downloads nothing.

    Raises:
        ValueError: the ratings are missing or have changed.
    """
    path = locate_movielens(config.dir, download=config.download and CATALOGUE_FILE not in state)
    return _load(path, config, seed, state, config.name)


def load_own_interactions(config: DataConfig, seed: int, state: State) -> Data:
    """A CSV, TSV, ``.inter`` or ``.npz`` file of users and items."""
    assert config.path is not None  # checked by build_data
    path = config.path.expanduser()
    return _load(path, config, seed, state, path.stem)


def read_own_interactions(path: Path, config: DataConfig, state: State) -> InteractionSource:
    """Every user of a file, in order of appearance, with those of their items that are in a run's catalogue."""
    return read_users(path, Catalogue.from_bytes(state[CATALOGUE_FILE]), config)[0]


def read_users(path: Path, catalogue: Catalogue, config: DataConfig) -> tuple[InteractionSource, tuple[str, ...]]:
    """The users of a file with their items of the catalogue, and the users' ids.

    Args:
        path: the file, see `fastvae.data.interactions.files.read_interactions`.
        catalogue: the items of the run.
        config: settings of the run; ratings that are too low for training are ignored.

    Raises:
        ValueError: the file names no users and items, or none of its valid items is in the catalogue.
    """
    columns = replace(config.interactions.columns, time=None)  # these users' items are all used, whatever their times
    read = read_interactions(path, config.interactions.min_rating, config.max_bytes, columns)
    return _known_items(read, catalogue, config, str(path)), read.user_ids


def read_matrix(matrix: Any, name: str, config: DataConfig, data: Data) -> InteractionSource:
    """The users of a SciPy sparse matrix ``[users, items]``, whose column numbers are the item ids, as in a .npz file.

    Raises:
        ValueError: none of its items is in the run's catalogue.
        TypeError: something else than a sparse matrix.
    """
    if not is_sparse(matrix):
        raise TypeError(
            f"{name}: a run on interactions takes a SciPy sparse matrix of users and items, got"
            f" {type(matrix).__name__}; use scipy.sparse.csr_array(x), or name a file"
        )
    rows = matrix.tocsr()
    read = interactions_of(rows.indptr, rows.indices, rows.data, rows.shape, config.interactions.min_rating, name)
    return _known_items(read, Catalogue.from_bytes(data.state[CATALOGUE_FILE]), config, name)


def _known_items(read: Interactions, catalogue: Catalogue, config: DataConfig, name: str) -> InteractionSource:
    """Every user with those items that the catalogue has."""
    min_rating = config.interactions.min_rating
    column_of = columns_of(catalogue, read.item_ids)
    source = read.rows.select(torch.arange(len(read.rows)), column_of, len(catalogue), name=name)
    if not len(source.columns):
        rated = f" with a rating of at least {min_rating:g}" if min_rating is not None and read.has_ratings else ""
        raise ValueError(f"{name}: none of its {len(read.item_ids)} item IDs is in the run's catalogue{rated}")
    return source


def _load(path: Path, config: DataConfig, seed: int, state: State, name: str) -> Data:
    return load_interactions(path, config.interactions, seed=seed, state=state, name=name, max_bytes=config.max_bytes)
