"""How interactions of users with items are read, as a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class RatingColumns:
    """Columns of a file by name; by number, from 1, where its first line is no header; None finds the usual names."""

    user: str | None = None
    """The users."""
    item: str | None = None
    """The items."""
    rating: str | None = None
    """The ratings."""
    time: str | None = None
    """The times."""


@dataclass(frozen=True, kw_only=True)
class InteractionsConfig(Settings):
    """Which interactions count, and which users are held out."""

    min_rating: float | None = None
    """Where the file has ratings: those below count for nothing; None counts every one. All others count once."""
    min_items: int = 5
    """Users with fewer items are left out."""
    test_share: float = 0.2
    """Part of the users that is held out for the test, in (0, 1)."""
    fold: int = 0
    """Which part: 0 .. 1 / test_share - 1; the folds share no user."""
    titles: Path | None = setting(None, changes_result=False)
    """File with the items' titles; None looks beside the interactions for one."""
    user: str | None = None
    """Column of the users: its name, or its number from 1 where the first line is no header; None finds a usual
    name."""
    item: str | None = None
    """Column of the items, likewise."""
    rating: str | None = None
    """Column of the ratings, likewise."""
    time: str | None = None
    """Column of the times, likewise; they are known for what they are, and decide nothing yet."""

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
        """The columns of a text file."""
        return RatingColumns(user=self.user, item=self.item, rating=self.rating, time=self.time)

    @property
    def num_folds(self) -> int:
        """How many folds share no user."""
        return int(1 / self.test_share + 1e-9)
