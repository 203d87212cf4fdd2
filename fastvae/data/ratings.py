"""Reading who chose what from CSV, TSV and ``.inter`` files."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastvae.data.delimited import fields_of, open_text, text_suffix

_USER = ("user_id", "userid", "user", "uid", "customer_id", "customer", "session_id", "reader")
_ITEM = ("item_id", "itemid", "item", "iid", "movie_id", "movieid", "movie", "product_id", "book_id", "track_id", "sid")
_RATING = ("rating", "ratings", "score", "stars")
_TITLE = ("title", "movie_title", "name", "item_name")
_YEAR = ("release_year", "year")


@dataclass(frozen=True)
class Ratings:
    """Interactions that count, in the file's order; users and items are numbered as they first appear in the file."""

    users: NDArray[np.int32]  # [N]
    items: NDArray[np.int32]  # [N]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    has_ratings: bool  # whether the file has such a column


def is_ratings_file(path: Path) -> bool:
    """Whether a file's first line names a column of users and one of items; any ``.inter`` file does."""
    if text_suffix(path) == ".inter":
        return path.is_file()
    if text_suffix(path) not in (".csv", ".tsv", ".txt") or not path.is_file():
        return False
    with open_text(path, errors="replace") as file:
        names = _names(next(fields_of(file, path), (1, []))[1])
    return _find(names, _USER) is not None and _find(names, _ITEM) is not None


def read_ratings(path: Path, min_rating: float | None = None) -> Ratings:
    """The interactions of a file with a header that names a column of users and one of items, and maybe of ratings.

    Args:
        path: the file.
        min_rating: where the file has ratings, those below count for nothing; None counts every one.

    Raises:
        ValueError: not such a file, no interactions, or a line that does not fit the header; it is named.
    """
    users, items = array("i"), array("i")  # 8 bytes an interaction
    user_numbers: dict[str, int] = {}
    item_numbers: dict[str, int] = {}
    with open_text(path) as file:
        lines = fields_of(file, path)
        columns = _columns(path, next(lines, (1, []))[1])
        for line, row in lines:
            if not row:
                continue
            try:
                user, item, counts = columns.read(row, min_rating)
            except ValueError as error:
                raise ValueError(f"{path}: line {line} does not fit the header: {error}") from None
            user_number = user_numbers.setdefault(user, len(user_numbers))
            item_number = item_numbers.setdefault(item, len(item_numbers))
            if counts:
                users.append(user_number)
                items.append(item_number)
    if not user_numbers:
        raise ValueError(f"{path}: holds a header and no interactions")
    return Ratings(
        users=np.frombuffer(users, dtype=np.int32),
        items=np.frombuffer(items, dtype=np.int32),
        user_ids=tuple(user_numbers),
        item_ids=tuple(item_numbers),
        has_ratings=columns.rating is not None,
    )


def read_titles(path: Path) -> dict[str, str]:
    """The title of each item id, with its year where the file has a column of years; nothing without such columns."""
    with open_text(path, errors="replace") as file:
        rows = fields_of(file, path)
        names = _names(next(rows, (1, []))[1])
        item, title, year = _find(names, _ITEM), _find(names, _TITLE), _find(names, _YEAR)
        if item is None or title is None:
            return {}
        found = {}
        for _, row in rows:
            if len(row) > max(item, title):
                years = row[year].strip() if year is not None and len(row) > year else ""
                found[row[item]] = row[title].strip() + (f" ({years})" if years else "")
        return found


def titles_beside(path: Path) -> Path | None:
    """The file of titles that usually lies beside: ``x.item`` beside ``x.inter``, or movies or items in CSV."""
    suffix = ".csv" if path.suffix == ".npz" else path.suffix
    names = (path.with_suffix(".item"), *(path.with_name(f"{stem}{suffix}") for stem in ("movies", "items")))
    return next((name for name in names if name != path and name.is_file()), None)


@dataclass(frozen=True)
class _Columns:
    """Which values of a line are its user, its item and its rating."""

    names: Sequence[str]
    user: int
    item: int
    rating: int | None

    def read(self, row: Sequence[str], min_rating: float | None) -> tuple[str, str, bool]:
        """A line's user and item, and whether its rating is enough."""
        try:
            user, item, rating = row[self.user], row[self.item], None if self.rating is None else row[self.rating]
        except IndexError:
            last = max(self.user, self.item, self.rating or 0)
            raise ValueError(f"{self.names[last]} should be its value {last + 1}, it has {len(row)}") from None
        if rating is None:
            return user, item, True
        try:
            number = float(rating)
        except ValueError:
            raise ValueError(f"{self.names[self.rating or 0]} must be a number, got {rating[:40]!r}") from None
        return user, item, min_rating is None or number >= min_rating


def _columns(path: Path, header: Sequence[str]) -> _Columns:
    names = _names(header)
    user, item = _find(names, _USER), _find(names, _ITEM)
    if user is None or item is None:
        raise ValueError(
            f"{path}: the first line must name a column of users ({', '.join(_USER[:3])}) and one of items"
            f" ({', '.join(_ITEM[:3])}), got {', '.join(names[:8]) or 'nothing'}"
        )
    return _Columns(names, user, item, _find(names, _RATING))


def _names(header: Sequence[str]) -> list[str]:
    """The columns' names, without the types that ``.inter`` files give them (``user_id:token``)."""
    return [name.partition(":")[0].strip().lower() for name in header]


def _find(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)
