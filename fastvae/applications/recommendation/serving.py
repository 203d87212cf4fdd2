"""Recommendations for many users at once, in blocks, without a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.interactions.catalogue import Catalogue
from fastvae.data.loading.staging import csr
from fastvae.data.objects import is_sparse
from fastvae.evaluate.ranking import Scorer, top_items
from fastvae.nn.bag import rows_of

USERS_AT_A_TIME = 500
Block = tuple[NDArray[np.str_], NDArray[np.float32]]  # IDs [B, num] and scores [B, num] of B users, best first


def top_of_users(score: Scorer, catalogue: Catalogue, users: Any, num: int, block: int) -> Iterator[Block]:
    """Yield the best items of many users; see `Recommender.top`, which has the same arguments and errors.

    Args:
        score: the recommender.
        catalogue: its items.
        users: a scipy sparse matrix [N, V], or a list of the IDs of each user's items.
        num: number of items per user.
        block: number of users at a time.
    """
    if block < 1 or not 1 <= num <= len(catalogue):
        raise ValueError(
            f"top: num must be in 1 .. {len(catalogue)}, the number of items, and block at least 1,"
            f" got {num} and {block}"
        )
    if is_sparse(users):
        if users.shape[1] != len(catalogue):
            raise ValueError(
                f"top: users must have {len(catalogue)} columns, the items of the catalogue, got"
                f" {users.shape[1]}; use the catalogue of this run"
            )
        return _blocks(score, catalogue, users.tocsr(), users.shape[0], num, block)
    if isinstance(users, str) or not isinstance(users, Sequence) or any(isinstance(items, str) for items in users):
        raise TypeError(
            "top: users must be a scipy sparse matrix or a list with a list of IDs for each user, got"
            f" {type(users).__name__}{' of strings' if isinstance(users, Sequence) else ''}"
        )
    return _blocks(score, catalogue, users, len(users), num, block)


def _blocks(score: Scorer, catalogue: Catalogue, users: Any, total: int, num: int, block: int) -> Iterator[Block]:
    ids = np.asarray(catalogue.ids)
    places = {item: place for place, item in enumerate(catalogue.ids)}
    for first in range(0, total, block):
        some = users[first : first + block]
        counts = _counts_of_matrix(some) if is_sparse(some) else _counts_of_ids(some, places, first)
        known = counts.crow_indices().diff()
        if int(known.min()) == 0:
            raise ValueError(
                f"top: user {first + int(known.argmin())} has no items; leave the user out, and show popular items"
            )
        scores = score(counts)
        scores[rows_of(counts.crow_indices(), len(counts.col_indices())), counts.col_indices()] = -torch.inf
        best = top_items(scores, counts, num)
        yield ids[best.numpy()], scores.gather(1, best).float().numpy()


def _counts_of_ids(users: Sequence[Sequence[str]], places: Mapping[str, int], first: int) -> Tensor:
    """The items of users, given by their IDs, as ``torch.sparse_csr`` counts [B, V]."""
    rows = []
    for number, items in enumerate(users, start=first):
        unknown = [item for item in items if str(item) not in places]
        if unknown:
            raise ValueError(
                f"top: user {number} has item {str(unknown[0])!r}, which is not in the catalogue; leave it out, or"
                " train with it"
            )
        rows.append(sorted({places[str(item)] for item in items}))
    lengths = torch.tensor([0, *map(len, rows)]).cumsum(0)
    columns = torch.tensor([column for row in rows for column in row], dtype=torch.int64)
    return csr(lengths, columns, torch.ones(len(columns)), len(places))


def _counts_of_matrix(users: Any) -> Tensor:
    """The items of users, the columns of a scipy CSR matrix that are not 0, as ``torch.sparse_csr`` ones [B, V]."""
    users = users.copy()
    users.sum_duplicates()
    users.eliminate_zeros()
    offsets, columns = (torch.from_numpy(each.astype(np.int64)) for each in (users.indptr, users.indices))
    return csr(offsets, columns, torch.ones(len(columns)), users.shape[1])
