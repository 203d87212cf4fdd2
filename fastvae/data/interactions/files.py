"""Files of interactions as compressed rows: from a text table or a sparse matrix."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.files.arrays import ZIP_ERRORS, is_sparse_file, read_array
from fastvae.data.interactions.config import RatingColumns
from fastvae.data.interactions.ratings import is_ratings_file, read_ratings
from fastvae.data.interactions.source import InteractionSource, check_rows, first_unsorted_row
from fastvae.nn.bag import rows_of

MAX_BYTES = 4 * 2**30
_MEMBERS = ("indptr", "indices", "data")
_MAX_ITEMS = 10**7  # each has an ID


@dataclass(frozen=True)
class Interactions:
    """Unique interactions, by the indices of users and items in a file."""

    rows: InteractionSource  # [U, V]; a user without valid interactions has no items
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    has_ratings: bool  # whether the file has ratings
    notes: tuple[str, ...] = ()  # how columns were interpreted


def read_interactions(
    path: Path, min_rating: float | None = None, max_bytes: int = MAX_BYTES, columns: RatingColumns | None = None
) -> Interactions:
    """The interactions of a CSV, TSV, ``.inter`` or ``.npz`` file.

    Args:
        path: the file; an ``.npz`` is what `read_sparse` reads.
        min_rating: ignore lower ratings, if the file has ratings; None uses all.
        max_bytes: largest allowed size of an array of an ``.npz``.
        columns: columns of a text file; the usual names if None.

    Raises:
        ValueError: not such a file, or no interactions; the message names the line or the array.
    """
    if path.suffix.lower() == ".npz":
        if columns is not None and columns.time is not None:
            raise ValueError(
                f"{path}: a sparse matrix has no column of times, got --data.interactions.time {columns.time}; leave"
                " it out, or give the interactions as a CSV file"
            )
        return read_sparse(path, min_rating, max_bytes)
    ratings = read_ratings(path, min_rating, columns)
    users, items = torch.from_numpy(ratings.users), torch.from_numpy(ratings.items)
    times = None if ratings.times is None else torch.from_numpy(ratings.times)
    num_users, num_items = len(ratings.user_ids), len(ratings.item_ids)
    rows = InteractionSource.from_pairs(users, items, num_users, num_items, times=times, name=str(path))
    num_repeated = len(ratings.users) - len(rows.columns)
    repeated = [f"{path}: {num_repeated:,} are repeated and count once"] if num_repeated else []
    notes = (*ratings.notes, *repeated)
    return Interactions(rows, ratings.user_ids, ratings.item_ids, ratings.has_ratings, notes)


def is_interactions_file(path: Path) -> bool:
    """Whether `read_interactions` can read a file, from its first line or its list of arrays."""
    return is_ratings_file(path) or is_sparse_file(path)


def read_sparse(path: Path, min_rating: float | None = None, max_bytes: int = MAX_BYTES) -> Interactions:
    """A matrix of users x items in compressed rows, as ``scipy.sparse.save_npz`` writes it.

    Row and column numbers are the IDs. Values are ratings if one of them is not 1; a stored 0 is not an interaction.
    Nothing is unpickled.

    Raises:
        ValueError: another format, arrays that do not fit each other, or no interactions.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            shape = _read_shape(archive, path, max_bytes)
            crow, columns, values = (_read(archive, path, name, max_bytes) for name in _MEMBERS)
    except ZIP_ERRORS as error:
        raise ValueError(f"{path}: not a readable .npz archive ({error})") from None
    except KeyError as error:
        raise ValueError(f"{path}: a sparse matrix in an .npz has {', '.join(_MEMBERS)}: {error.args[0]}") from None
    return interactions_of(crow, columns, values, shape, min_rating, str(path))


def interactions_of(
    crow: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int],
    min_rating: float | None,
    name: str,
) -> Interactions:
    """The interactions of a matrix in compressed rows; see `read_sparse`.

    Args:
        crow: offsets [users + 1].
        columns: item of each interaction [N].
        values: value of each interaction [N].
        shape: users and items.
        min_rating: see `read_interactions`.
        name: how error messages call it.

    Raises:
        ValueError: the arrays do not fit each other.
    """
    num_users, num_items = shape
    are_whole = crow.dtype.kind in "iu" and columns.dtype.kind in "iu"
    if len(crow) != num_users + 1 or len(values) != len(columns) or not are_whole:
        raise ValueError(
            f"{name}: a matrix of {num_users} x {num_items} has {num_users + 1} offsets (indptr), and a whole number"
            f" (indices) and a value (data) for each interaction, got {len(crow)}, {len(columns)} and {len(values)}"
        )
    has_ratings = bool((values != 1).any())
    counts = values != 0
    if min_rating is not None and has_ratings:
        counts &= values >= min_rating
    del values
    rows = _rows(torch.from_numpy(crow.astype(np.int64)), columns, counts, num_items, name)
    return Interactions(rows, tuple(map(str, range(num_users))), tuple(map(str, range(num_items))), has_ratings)


def _rows(
    crow: Tensor, columns: NDArray[Any], counts: NDArray[np.bool_], num_items: int, name: str
) -> InteractionSource:
    """Return the valid interactions, with each user's items in order."""
    items = torch.from_numpy(columns if columns.dtype == np.int32 else columns.astype(np.int64))
    check_rows(crow, items, num_items, name)
    items = items.int()
    if not counts.all():
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        crow, items = torch.from_numpy(before)[crow], items[torch.from_numpy(counts)]
    if first_unsorted_row(crow, items) is not None:
        return InteractionSource.from_pairs(rows_of(crow, len(items)), items, len(crow) - 1, num_items, name=name)
    return InteractionSource(crow, items, num_items, name=name)


def _read_shape(archive: zipfile.ZipFile, path: Path, max_bytes: int) -> tuple[int, int]:
    with archive.open("format.npy") as member:
        form = member.read(1024)
    shape = _read(archive, path, "shape", max_bytes)
    if not form.endswith((b"csr", b"c\0\0\0s\0\0\0r\0\0\0")) or len(shape) != 2 or shape.dtype.kind not in "iu":
        raise ValueError(f"{path}: must be a csr matrix of users x items; save it by scipy.sparse.save_npz(x.tocsr())")
    num_users, num_items = shape.tolist()
    if num_users < 1 or not 1 <= num_items <= _MAX_ITEMS:
        raise ValueError(f"{path}: must have a user and 1 .. {_MAX_ITEMS} items, got {num_users} x {num_items}")
    return num_users, num_items


def _read(archive: zipfile.ZipFile, path: Path, name: str, max_bytes: int) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        return read_array(member, f"{path}, array {name!r}", max_bytes).reshape(-1)
