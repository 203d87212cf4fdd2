"""Interactions of users with items, in compressed rows: no dense matrix of users x items is created."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastvae.data.loading.staging import csr
from fastvae.data.source import CHUNK_ROWS, Source
from fastvae.nn.bag import rows_of
from fastvae.ops import SplitSite, Use, noise_key, philox_uniform_at, stream
from fastvae.records import Batch

_CHECKED_AT_A_TIME = 2**24  # interactions: limits temporary memory


class InteractionSource(Source):
    """Users, each a row of counts over V items, as ``torch.sparse_csr`` float32 [B, V].

    Args:
        crow: int64 [U + 1], start of each user's items.
        columns: int32 or int64 [N], each user's items, ascending and unique. It may be memory-mapped: it is
            read once to be checked, then only the requested rows.
        num_items: V.
        values: [N], number of times; None: once each.
        recency: int64 [N], larger for newer interactions of a user; None if the times are unknown.
        name: name in error messages.

    Raises:
        ValueError: the offsets do not fit the columns, or a user's items are not ascending or not in 0 .. V - 1.
    """

    def __init__(
        self,
        crow: Tensor,
        columns: Tensor,
        num_items: int,
        values: Tensor | None = None,
        *,
        recency: Tensor | None = None,
        name: str = "interactions",
    ) -> None:
        check_rows(crow, columns, num_items, name)
        user = first_unsorted_row(crow, columns)
        if user is not None:
            raise ValueError(
                f"{name}: each user's items must be ascending and unique, those of user {user} are not; sort them,"
                " or use InteractionSource.from_pairs"
            )
        self.crow, self.columns, self.values, self.recency = crow, columns, values, recency
        self.event_shape, self.dtype, self.levels = (num_items,), torch.float32, None

    @classmethod
    def from_pairs(
        cls,
        users: Tensor,
        items: Tensor,
        num_users: int,
        num_items: int,
        *,
        times: Tensor | None = None,
        name: str = "interactions",
    ) -> InteractionSource:
        """Build a source from pairs of a user and an item, in any order; repeated pairs count once.

        Args:
            users: [N], the users.
            items: [N], the items.
            num_users: number of users.
            num_items: number of items.
            times: [N], larger is newer, and of equal ones the later; a repeated pair has its newest. None: unknown.
            name: name in error messages.
        """
        pairs = users.numpy().astype(np.int64)
        pairs *= num_items
        pairs += items.numpy()
        ranks = None
        if times is None:
            pairs.sort()  # in place: by user, and by item within a user
        else:
            ranks = np.empty(len(pairs), dtype=np.int64)
            ranks[np.argsort(times.numpy(), kind="stable")] = np.arange(len(pairs))
            order = np.lexsort((-ranks, pairs))  # the newest of a repeated pair comes first
            pairs, ranks = pairs[order], ranks[order]
        is_first = np.ones(len(pairs), dtype=np.bool_)
        np.not_equal(pairs[1:], pairs[:-1], out=is_first[1:])
        if not is_first.all():
            pairs, ranks = pairs[is_first], None if ranks is None else ranks[is_first]
        crow = np.searchsorted(pairs, np.arange(num_users + 1) * num_items)
        columns = np.empty(len(pairs), dtype=np.int32)
        np.remainder(pairs, num_items, out=columns, casting="unsafe")  # smaller than num_items, so that it fits
        recency = None if ranks is None else torch.from_numpy(ranks)
        return cls(torch.from_numpy(crow), torch.from_numpy(columns), num_items, recency=recency, name=name)

    def select(
        self, users: Tensor, column_of: Tensor, num_items: int, *, name: str = "interactions"
    ) -> InteractionSource:
        """Select users and renumber items.

        Args:
            users: int64 [M], indices of the users, in the new order.
            column_of: int64 [V], new index of each item, each used once; -1: omitted.
            num_items: number of new indices.
            name: name in error messages.
        """
        crow, parts = torch.zeros(len(users) + 1, dtype=torch.int64), [torch.zeros(0, dtype=torch.int32)]
        recencies = [torch.zeros(0, dtype=torch.int64)]
        for first in range(0, len(users), CHUNK_ROWS):
            chunk = users[first : first + CHUNK_ROWS]
            counts, recency = self[chunk], self.recency_of(chunk)
            columns = column_of[counts.col_indices()]
            known = columns >= 0
            rows = rows_of(counts.crow_indices(), len(columns))[known]
            times = None if recency is None else recency[known]
            part = InteractionSource.from_pairs(rows, columns[known], counts.shape[0], num_items, times=times)
            crow[first + 1 : first + len(part) + 1] = part.crow[1:] + crow[first]
            parts.append(part.columns)
            if part.recency is not None:
                recencies.append(part.recency)
        ranks = None if self.recency is None else torch.cat(recencies)
        return InteractionSource(crow, torch.cat(parts), num_items, recency=ranks, name=name)

    def __len__(self) -> int:
        return len(self.crow) - 1

    def recency_of(self, indices: Tensor) -> Tensor | None:
        """The recency of each interaction of ``self[indices]``, in the order of its columns; None if unknown."""
        return None if self.recency is None else self.recency[self._places(indices)[1]]

    def _places(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets of some users' items, and the places of these items among all interactions."""
        starts = self.crow[indices]
        lengths = self.crow[indices + 1] - starts
        crow = torch.zeros(len(indices) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=crow[1:])
        return crow, torch.arange(int(crow[-1])) + torch.repeat_interleave(starts - crow[:-1], lengths)

    def __getitem__(self, indices: Tensor) -> Tensor:
        crow, places = self._places(indices)
        values = torch.ones(len(places)) if self.values is None else self.values[places].float()
        return csr(crow, self.columns[places].long(), values, self.event_shape[0])

    def popularity(self) -> Tensor:
        """Return the number of users of each item, float32 [V]."""
        return torch.bincount(self.columns, minlength=self.event_shape[0]).float()


def check_rows(crow: Tensor, columns: Tensor, num_items: int, name: str) -> None:
    """ValueError unless offsets int64 [U + 1] and columns [N] can be rows over ``num_items`` items."""
    if crow.dim() != 1 or len(crow) < 2 or int(crow[0]) != 0 or int(crow[-1]) != len(columns):
        raise ValueError(
            f"{name}: offsets must go from 0 to the {len(columns)} interactions of at least one user,"
            f" got {list(crow.shape)} of them"
        )
    if bool((crow[1:] < crow[:-1]).any()):
        raise ValueError(f"{name}: offsets must not fall, got some that do; give where each user's items begin")
    if len(columns):
        low, high = columns.aminmax()
        if low < 0 or high >= num_items:
            raise ValueError(f"{name}: items must be in 0 .. {num_items - 1}, got {int(low)} .. {int(high)}")


def first_unsorted_row(crow: Tensor, columns: Tensor) -> int | None:
    """Return the first row whose columns are not ascending and unique; None if there is none."""
    for first in range(0, len(columns) - 1, _CHECKED_AT_A_TIME):
        chunk = columns[first : first + _CHECKED_AT_A_TIME + 1]
        falls = (chunk[1:] <= chunk[:-1]).nonzero().flatten() + first + 1  # places that are no larger than the last
        rows = torch.searchsorted(crow, falls, right=True) - 1
        within = rows[crow[rows] != falls]
        if len(within):
            return int(within[0])
    return None


@dataclass(frozen=True)
class Counts:
    """The preprocessing of users: counts are input and target, unchanged."""

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """Return the batch of raw counts [B, V]; no noise is used."""
        return Batch(x=raw, target=raw, rows=indices.to(raw.device))

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """None: bits per item of a catalogue are not meaningful."""
        return None

    def mean(self, raw: Tensor) -> Tensor | None:
        """None: the published model initialises its output at 0, not at the items' popularity."""
        return None


@dataclass(frozen=True)
class HeldOut:
    """Users' items in two parts, each ``torch.sparse_csr`` [B, V]."""

    fold_in: Tensor  # input of the model
    held_out: Tensor  # items that it should rank first


def hold_out(
    counts: Tensor, first_row: int, *, share: float = 0.2, seed: int = 0, recency: Tensor | None = None
) -> HeldOut:
    """Each user's items in two parts: ``int(share * n)`` held out, the rest to fold in (Liang et al. 2018, 4.2).

    The newest items are held out if their recency is known; otherwise the split is a function of (seed, user, item).

    Args:
        counts: ``torch.sparse_csr`` [B, V], consecutive users of their source from ``first_row`` on.
        first_row: index of the first user.
        share: fraction of each user's items that is held out, in (0, 1).
        seed: random seed.
        recency: int64 [number of counts], larger for newer items of a user; None draws the items at random.
    """
    if not 0 < share < 1:
        raise ValueError(f"hold_out: share must be in (0, 1), got {share}")
    crow, columns = counts.crow_indices(), counts.col_indices()
    rows = rows_of(crow, len(columns))
    if recency is None:
        noise_stream = stream(Use.AUGMENTATION, SplitSite.HELD_OUT_ITEMS, evaluation=True)
        key = noise_key(seed, 0, first_row, device=crow.device)
        order = torch.argsort(philox_uniform_at(key, rows, columns, stream=noise_stream))
    else:
        order = torch.argsort(recency, descending=True)
    order = order[torch.argsort(rows[order], stable=True)]  # by row, and by noise or age within a row
    place_in_row = torch.empty_like(rows)
    place_in_row[order] = torch.arange(len(rows), device=rows.device) - crow[rows]
    num_held_out = (crow.diff().double() * share + 1e-9).long()  # int(.2 * n) that survives .2 * 5 = .999...
    is_held_out = place_in_row < num_held_out[rows]
    fold_in, held_out = (_keep(counts, rows, keep) for keep in (~is_held_out, is_held_out))
    return HeldOut(fold_in, held_out)


def _keep(counts: Tensor, rows: Tensor, keep: Tensor) -> Tensor:
    crow = torch.zeros(counts.shape[0] + 1, dtype=torch.int64, device=rows.device)
    crow[1:] = torch.bincount(rows[keep], minlength=counts.shape[0]).cumsum(0)
    return csr(crow, counts.col_indices()[keep], counts.values()[keep], counts.shape[1])
