"""Settings of interactions of users with items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class RatingColumns:
    """Columns of a file by name, or by number from 1 if it has no header; None searches for the usual names."""

    user: str | None = None
    """The users."""
    item: str | None = None
    """The items."""
    rating: str | None = None
    """The ratings."""
    time: str | None = None
    """The times; only a named column is used."""


@dataclass(frozen=True, kw_only=True)
class InteractionsConfig(Settings):
    """Which interactions are used and which users are held out."""

    min_rating: float | None = None
    """Ignore interactions whose rating is lower, if the file has ratings; None uses all of them. The remaining
    interactions all have weight 1."""
    min_items: int = 5
    """Users with fewer items are excluded."""
    test_share: float = 0.2
    """Fraction of the users that is held out for the test, in (0, 0.5]."""
    fold: int = 0
    """Index of the held-out fold: 0 .. 1 / test_share - 1. The folds are disjoint sets of users."""
    titles: Path | None = setting(None, changes_result=False)
    """File with the items' titles; None searches the folder of the interactions."""
    user: str | None = None
    """Column of the users: its name, or its number from 1 if the first line is not a header; None searches for a usual
    name."""
    item: str | None = None
    """Column of the items, specified in the same way."""
    rating: str | None = None
    """Column of the ratings, specified in the same way."""
    time: str | None = None
    """Column of the times (numbers such as Unix times, or dates), specified in the same way. `recommend --report` then
    holds out each test user's newest items; None holds out random ones, and no times are read."""

    def __post_init__(self) -> None:
        if not 0 < self.test_share <= 0.5:
            raise ValueError(f"InteractionsConfig: test_share must be in (0, 0.5], got {self.test_share}")
        if not 0 <= self.fold < self.num_folds or self.min_items < 1:
            raise ValueError(
                f"InteractionsConfig: fold must be in 0 .. {self.num_folds - 1} and min_items at least 1,"
                f" got {self.fold} and {self.min_items}"
            )

    @property
    def columns(self) -> RatingColumns:
        """The columns of the interactions file."""
        return RatingColumns(user=self.user, item=self.item, rating=self.rating, time=self.time)

    @property
    def num_folds(self) -> int:
        """Number of disjoint folds of users."""
        return int(1 / self.test_share + 1e-9)
