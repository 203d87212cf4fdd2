"""The data of a recommender: interactions, held-out users, and titles of the items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data.dataset import Data, State
from fastvae.data.interactions.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.interactions.config import InteractionsConfig
from fastvae.data.interactions.files import MAX_BYTES, Interactions, read_interactions
from fastvae.data.interactions.ratings import find_titles, read_titles
from fastvae.data.interactions.source import Counts, InteractionSource
from fastvae.data.order import order_index
from fastvae.data.source import CHUNK_ROWS, Source

TEST_USERS_FILE = "test_users.json"  # in a run's data folder


def load_interactions(
    path: Path, config: InteractionsConfig, *, seed: int, state: State, name: str, max_bytes: int = MAX_BYTES
) -> Data:
    """Training users, test users and the catalogue of the items that training users have.

    Args:
        path: a file of users and items, see `read_interactions`.
        config: which interactions are used and which users are held out.
        seed: seed of the folds.
        state: state of a run: its catalogue, which is then used unchanged, and its test users.
        name: name of the data in messages.
        max_bytes: largest allowed size of an array of an ``.npz``.

    Raises:
        ValueError: the file is missing or unsuitable, or no users are left; the message states the rule.
            Or it has changed since the run began, so that a user of the training could be among the test users.
    """
    interactions = read_interactions(path, config.min_rating, max_bytes, config.columns)
    if config.min_rating is not None and not interactions.has_ratings:
        raise ValueError(
            f"{path}: min_rating={config.min_rating} requires a column of ratings (in an .npz, values other than 1); "
            "set"
            " it to None"
        )
    train, test = _fold(interactions.rows, config, seed, path)
    test_users = _fingerprint([interactions.user_ids[user] for user in test.tolist()])
    if state.get(TEST_USERS_FILE, test_users) != test_users:
        raise ValueError(
            f"{path} has changed since the run began: other users would be held out, and the run may have been trained"
            " on them"
        )
    kept = state.get(CATALOGUE_FILE)
    catalogue = _catalogue(interactions, train, path, config) if kept is None else Catalogue.from_bytes(kept)
    column_of = columns_of(catalogue, interactions.item_ids)
    sources = [interactions.rows.select(part, column_of, len(catalogue), name=name) for part in (train, test)]
    new_state = {CATALOGUE_FILE: catalogue.to_bytes() if kept is None else kept, TEST_USERS_FILE: test_users}
    data = interaction_data(name, sources[0], sources[1], new_state)
    return data if kept is not None else replace(data, notes=interactions.notes)


def interaction_data(name: str, train: Source, test: Source, state: State) -> Data:
    """Data of users and items; ``state`` is stored in a run."""
    return Data(name=name, train=train, test=test, preprocess=Counts(), kind="interactions", state=state)


def columns_of(catalogue: Catalogue, ids: Sequence[str]) -> Tensor:
    """Return the index of each ID in the catalogue, int64 [len(ids)]; -1 if it is missing."""
    places = {identity: place for place, identity in enumerate(catalogue.ids)}
    return torch.tensor([places.get(identity, -1) for identity in ids], dtype=torch.int64)


def _fold(rows: InteractionSource, config: InteractionsConfig, seed: int, path: Path) -> tuple[Tensor, Tensor]:
    """Training users and test users: consecutive ranges of a keyed order of all users with enough items."""
    known = (rows.crow.diff() >= config.min_items).nonzero().flatten()
    if len(known) < 2 * config.num_folds:
        raise ValueError(
            f"{path}: {len(known)} users have at least {config.min_items} valid items; {2 * config.num_folds} are"
            " needed to hold some out; lower min_items or min_rating"
        )
    order = known[order_index(torch.arange(len(known)), len(known), seed)]
    first, stop = (len(order) * part // config.num_folds for part in (config.fold, config.fold + 1))
    return torch.cat([order[:first], order[stop:]]), order[first:stop]


def _fingerprint(user_ids: Sequence[str]) -> bytes:
    """Describe users by number and digest, as JSON."""
    sha256 = hashlib.sha256("\n".join(user_ids).encode()).hexdigest()
    return json.dumps({"num_users": len(user_ids), "sha256": sha256}).encode()


def _catalogue(interactions: Interactions, users: Tensor, path: Path, config: InteractionsConfig) -> Catalogue:
    """Return the items of these users in the order of the file, with their titles."""
    has = torch.zeros(len(interactions.item_ids), dtype=torch.bool)
    for chunk in users.split(CHUNK_ROWS):
        has[interactions.rows[chunk].col_indices()] = True
    file = config.titles if config.titles is not None else find_titles(path)
    titles = {} if file is None else read_titles(file)
    if config.titles is not None and not titles:
        raise ValueError(f"{file}: the first line must name a column of items and one of titles")
    ids = tuple(interactions.item_ids[item] for item in has.nonzero().flatten().tolist())
    return Catalogue(ids, tuple(titles.get(identity, identity) for identity in ids))
