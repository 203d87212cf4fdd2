"""The items of a recommender, and how users refer to them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

CATALOGUE_FILE = "items.json"  # in a run's data folder
_ID = "id="  # prefix of an ID, as opposed to a title
_SHOWN = 10  # number of titles in a message
_YEAR = re.compile(r" \(\d{4}\)$")

_Names = tuple[Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]]  # indices by exact name and by lower-case name


@dataclass(frozen=True)
class Catalogue:
    """V items: the ID in the data and the title of each."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]  # the ID itself if the data have no titles

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, name: str) -> int:
        """Return the index of the item that a user refers to.

        It is, in this order, the item with this title, with this title except its year, with this ID, or the only one
        whose title contains this text; case matters only between items that do not differ otherwise. ``id=50`` is an
        ID, even if there is a title 50.

        Raises:
            ValueError: no item matches, or several; the message lists the nearest titles, or the matches.
        """
        wanted = name.strip()
        is_id = wanted.casefold().startswith(_ID)
        wanted = wanted[len(_ID) :].strip() if is_id else wanted
        folded = wanted.casefold()
        for exact, other in (self._ids,) if is_id else (self._titles, self._short_titles, self._ids):
            if found := exact.get(wanted) or other.get(folded):
                return self._only(found, wanted)
        if is_id:
            raise ValueError(f"no item has the id {wanted!r}")
        holding = [place for place, title in enumerate(self.titles) if wanted and folded in title.casefold()]
        if holding:
            return self._only(holding, wanted)
        near = self._nearest(folded)
        hint = f"; did you mean {' | '.join(near)}?" if near else ""
        raise ValueError(f"no item has {wanted!r} in its title{hint}")

    def label(self, place: int) -> str:
        """Return a unique name: the title, with its ID if another item has the same title."""
        title = self.titles[place]
        return title if len(self._titles[0][title]) == 1 else f"{title} ({_ID}{self.ids[place]})"

    def _only(self, found: Sequence[int], wanted: str) -> int:
        """Return the only index that was found; ValueError if there are several."""
        if len(found) == 1:
            return found[0]
        labels = [self.label(place) for place in found]
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        are_alike = any(label not in self._titles[0] for label in labels)
        remedy = f"use an ID, as in {_ID}{self.ids[found[0]]}" if are_alike else "give the whole title of one"
        raise ValueError(f"{wanted!r} matches several items: {' | '.join(labels[:_SHOWN])}{more}; {remedy}")

    def to_bytes(self) -> bytes:
        """Return JSON, which is stored in a run."""
        return json.dumps({"ids": self.ids, "titles": self.titles}, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Catalogue:
        """Read the result of `to_bytes`."""
        fields = json.loads(content)
        return cls(tuple(fields["ids"]), tuple(fields["titles"]))

    @cached_property
    def _titles(self) -> _Names:
        return _names(self.titles)

    @cached_property
    def _short_titles(self) -> _Names:
        return _names([_YEAR.sub("", title) for title in self.titles])

    @cached_property
    def _ids(self) -> _Names:
        return _names(self.ids)

    def _nearest(self, wanted: str) -> list[str]:
        titles = {_YEAR.sub("", title.casefold()): title for title in self.titles}
        return [titles[name] for name in difflib.get_close_matches(wanted, titles, n=3)]


def _names(names: Sequence[str]) -> _Names:
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        exact.setdefault(name, []).append(place)
        folded.setdefault(name.casefold(), []).append(place)
    return exact, folded
