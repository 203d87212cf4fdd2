"""Reading interactions from CSV, TSV, ``.inter`` and ``::`` files."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastvae.data.files.delimited import DOUBLE_COLON, fields_of, find_delimiter, open_text, text_suffix
from fastvae.data.interactions.config import RatingColumns
from fastvae.data.interactions.times import Times

# Names by which a file is recognised ...
_USER = ("user_id", "userid", "user", "uid", "customer_id", "customer", "session_id", "reader")
_ITEM = ("item_id", "itemid", "item", "iid", "movie_id", "movieid", "movie", "product_id", "book_id", "track_id", "sid")
_RATING = ("rating", "ratings", "score", "stars")
_TITLE = ("title", "movie_title", "name", "item_name")
_YEAR = ("release_year", "year")
# ... and further ones if it is known to contain interactions, without spaces, dashes and underscores.
_MORE_USERS = "username visitorid memberid clientid accountid buyerid reviewerid sessionid playerid profilename".split()
_MORE_ITEMS = (
    "isbn asin parentasin productid product sku articleid article songid trackid artistid gameid videoid bookid"
    " businessid stockcode newsid itemname"
).split()
_MORE_RATINGS = ("bookrating", "userrating", "overall", "reviewscore", "label")
_TIMES = ("timestamp", "time", "date", "datetime", "unixreviewtime", "createdat")
_LABEL = "label"  # RecBole's name for 1 and 0: chosen, or shown but not chosen
_NO_ID = frozenset(("", "nan", "<na>", "null", "\\n", "#n/a", "none"))
_LETTERS = re.compile(r"[^a-z0-9]")
_NUMBER = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Ratings:
    """Valid interactions in the order of the file; users and items are numbered as they first appear in the file."""

    users: NDArray[np.int32]  # [N]
    items: NDArray[np.int32]  # [N]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    has_ratings: bool  # whether the file has such a column
    times: NDArray[np.float64] | None = None  # [N], larger is newer; None if no column of times was named
    notes: tuple[str, ...] = field(default=())  # how columns were interpreted


def is_ratings_file(path: Path) -> bool:
    """Whether a file's first line names a column of users and one of items; any ``.inter`` file does."""
    if text_suffix(path) == ".inter":
        return path.is_file()
    if text_suffix(path) not in (".csv", ".tsv", ".txt") or not path.is_file():
        return False
    with open_text(path, errors="replace") as file:
        names = _names(next(fields_of(file, path), (1, []))[1])
    return _find(names, _USER) is not None and _find(names, _ITEM) is not None


def read_ratings(path: Path, min_rating: float | None = None, names: RatingColumns | None = None) -> Ratings:
    """The interactions of a file with a column of users and one of items, and optionally of ratings.

    Args:
        path: the file; its first line names the columns, unless columns are given by number.
        min_rating: ignore lower ratings, if the file has ratings; None uses all, except a 0 in a
            column named label, which means that the item was not chosen.
        names: names of the columns; the usual ones if None.

    Raises:
        ValueError: not such a file, no interactions, or a line that does not fit the header, has no ID, no number
            for its rating or no time in a named column of times; the message names the line.
    """
    users, items = array("i"), array("i")  # 8 bytes an interaction
    user_numbers: dict[str, int] = {}
    item_numbers: dict[str, int] = {}
    num_lines = 0
    with open_text(path) as file:
        delimiter, _ = find_delimiter(file)
        columns, lines = _begin(path, fields_of(file, path), names or RatingColumns(), delimiter)
        times = Times(columns.names[columns.time]) if columns.uses_time and columns.time is not None else None
        for line, row in lines:
            if not row:
                continue
            num_lines += 1
            try:
                user, item, counts = columns.read(row, min_rating)
                if counts and times is not None:
                    times.add(columns.time_of(row))
            except ValueError as error:
                raise ValueError(f"{path}: line {line} does not fit the header: {error}") from None
            user_number = user_numbers.setdefault(user, len(user_numbers))
            item_number = item_numbers.setdefault(item, len(item_numbers))
            if counts:
                users.append(user_number)
                items.append(item_number)
    if not user_numbers:
        raise ValueError(f"{path}: contains a header but no interactions")
    try:
        seconds = None if times is None else times.values()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Ratings(
        users=np.frombuffer(users, dtype=np.int32),
        items=np.frombuffer(items, dtype=np.int32),
        user_ids=tuple(user_numbers),
        item_ids=tuple(item_numbers),
        has_ratings=columns.rating is not None,
        times=seconds,
        notes=(f"{path}: {num_lines:,} interactions, {columns.describe()}; {len(users):,} are used",),
    )


def read_titles(path: Path) -> dict[str, str]:
    """Return the title of each item ID, with its year if the file has years; empty without such columns."""
    with open_text(path, errors="replace") as file:
        delimiter, _ = find_delimiter(file)
        rows = fields_of(file, path)
        _, header = next(rows, (1, []))
        names = _names(header)
        item, title, year = _find(names, _ITEM), _find(names, _TITLE), _find(names, _YEAR)
        if delimiter == DOUBLE_COLON and item is None and len(header) > 1:  # movies.dat of MovieLens: no header
            item, title, year, rows = 0, 1, None, chain([(1, header)], rows)
        if item is None or title is None:
            return {}
        found = {}
        for _, row in rows:
            if len(row) > max(item, title):
                years = row[year].strip() if year is not None and len(row) > year else ""
                found[row[item].strip()] = row[title].strip() + (f" ({years})" if years else "")
        return found


def find_titles(path: Path) -> Path | None:
    """Return the usual file of titles in the same folder: ``x.item`` for ``x.inter``, or movies or items in CSV."""
    suffix = ".csv" if path.suffix == ".npz" else path.suffix
    names = (path.with_suffix(".item"), *(path.with_name(f"{stem}{suffix}") for stem in ("movies", "items")))
    return next((name for name in names if name != path and name.is_file()), None)


@dataclass(frozen=True)
class _Columns:
    """Indices of user, item, rating and time in a line."""

    names: Sequence[str]
    user: int
    item: int
    rating: int | None
    time: int | None = None
    decimal_commas: bool = False
    has_header: bool = True
    uses_time: bool = False

    def read(self, row: Sequence[str], min_rating: float | None) -> tuple[str, str, bool]:
        """A line's user and item, and whether its rating is high enough."""
        try:
            user, item = row[self.user].strip(), row[self.item].strip()
            rating = None if self.rating is None else row[self.rating].strip()
        except IndexError:
            last = max(self.user, self.item, self.rating or 0)
            raise ValueError(f"{self.names[last]} should be its value {last + 1}, it has {len(row)}") from None
        is_long = len(row) > len(self.names) and any(row[len(self.names) :])
        if is_long or (not self.has_header and len(row) < len(self.names)):
            raise ValueError(f"it has {len(row)} values, the first line {len(self.names)}")
        for name, value in ((self.names[self.user], user), (self.names[self.item], item)):
            if value.lower() in _NO_ID:
                raise ValueError(f"{name} must not be empty, got {value!r}; remove the line")
        if rating is None:
            return user, item, True
        number = self._number(rating)
        if min_rating is None:
            return user, item, number > 0 or self.names[self.rating or 0] != _LABEL
        return user, item, number >= min_rating

    def time_of(self, row: Sequence[str]) -> str:
        """A line's time as text."""
        assert self.time is not None  # the caller reads times only from a file that has them
        if len(row) <= self.time:
            raise ValueError(f"{self.names[self.time]} should be its value {self.time + 1}, it has {len(row)}")
        return row[self.time].strip()

    def describe(self) -> str:
        """Describe how the columns were interpreted."""
        places = {"users": self.user, "items": self.item, "ratings": self.rating}
        taken = ", ".join(f"{what} from {self.names[at]}" for what, at in places.items() if at is not None)
        if self.uses_time and self.time is not None:
            taken += f", times from {self.names[self.time]} (each test user's newest items are held out)"
        elif self.time is not None:
            taken += f", times in {self.names[self.time]} are used only if --data.interactions.time names them"
        used = (*places.values(), self.time)
        others = [name for place, name in enumerate(self.names) if place not in used and name]
        return taken + (f", not used: {', '.join(others[:8])}" if others else "")

    def _number(self, text: str) -> float:
        written = text.replace(",", ".") if self.decimal_commas and _NUMBER.fullmatch(text) else text
        try:
            number = float(written)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{self.names[self.rating or 0]} must be a number, got {text[:40]!r}")
        return number


def _begin(
    path: Path, rows: Iterator[tuple[int, list[str]]], wanted: RatingColumns, delimiter: str
) -> tuple[_Columns, Iterator[tuple[int, list[str]]]]:
    """Return the columns and the lines of interactions; the first line is a header, except with columns by number."""
    first = next(rows, (1, []))
    names = _names(first[1])
    asked = (wanted.user, wanted.item, wanted.rating, wanted.time)
    decimal_commas = delimiter != ","
    given = [each for each in asked if each is not None]
    by_number = bool(given) and all(map(str.isdecimal, given)) and not set(given) <= set(names)
    has_time = wanted.time is not None
    if delimiter == DOUBLE_COLON and not any(asked[:3]) and _find_any(names, _USER, _MORE_USERS) is None:
        third, fourth = (str(place) if len(names) >= place else None for place in (3, 4))  # MovieLens has no header
        by_number, asked = True, ("1", "2", third, wanted.time or fourth)
    if by_number:
        numbers = [None if each is None else int(each) - 1 for each in asked]
        outside = next((each for each in numbers if each is not None and not 0 <= each < len(names)), None)
        if outside is not None or numbers[0] is None or numbers[1] is None:
            raise ValueError(
                f"{path}: columns by number require a user and an item in 1 .. {len(names)}, got"
                f" {', '.join(str(each) for each in asked)}"
            )
        titles = [f"column {place}" for place in range(1, len(names) + 1)]
        places = (numbers[0], numbers[1], numbers[2], numbers[3])
        columns = _Columns(titles, *places, decimal_commas, has_header=False, uses_time=has_time)
        return columns, chain([first], rows)
    user = _named(path, names, wanted.user, "user", _USER, _MORE_USERS)
    item = _named(path, names, wanted.item, "item", _ITEM, _MORE_ITEMS)
    if user is None or item is None:
        raise ValueError(
            f"{path}: the first line must name a column of users ({', '.join(_USER[:3])}) and one of items"
            f" ({', '.join(_ITEM[:3])}), got {', '.join(names[:8]) or 'nothing'}; set"
            " --data.interactions.user and item to their names, or to their numbers if the first line is not a header"
        )
    rating = _named(path, names, wanted.rating, "rating", _RATING, _MORE_RATINGS)
    time = _named(path, names, wanted.time, "time", _TIMES, ())
    return _Columns(names, user, item, rating, time, decimal_commas, uses_time=has_time), rows


def _named(
    path: Path, names: Sequence[str], wanted: str | None, what: str, usual: Sequence[str], more: Sequence[str]
) -> int | None:
    if wanted is None:
        return _find_any(names, usual, more)
    place = _find(names, (wanted.strip().lower(),))
    if place is None:
        raise ValueError(
            f"{path}: --data.interactions.{what}: no column is named {wanted!r}; there are {', '.join(names[:12])}"
        )
    return place


def _names(header: Sequence[str]) -> list[str]:
    """The columns' names, without the types of ``.inter`` files (``user_id:token``)."""
    return [name.partition(":")[0].strip().lower() for name in header]


def _find(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _find_any(names: Sequence[str], usual: Sequence[str], more: Sequence[str]) -> int | None:
    """Find a column by a usual name, first exactly, then without spaces and punctuation."""
    found = _find(names, usual)
    bare = [_LETTERS.sub("", name) for name in names]
    return found if found is not None else _find(bare, [_LETTERS.sub("", name) for name in (*usual, *more)])
