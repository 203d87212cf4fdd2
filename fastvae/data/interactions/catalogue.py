"""The items that a recommender knows, and how a person names them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

CATALOGUE_FILE = "items.json"  # in a run's data folder
_ID = "id="  # before what is an id and no title
_SHOWN = 10  # titles in a message
_YEAR = re.compile(r" \(\d{4}\)$")

_Names = tuple[Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]]  # places by name, as it is and in lower case


@dataclass(frozen=True)
class Catalogue:
    """V items: the id that the data give each, and its title."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]  # the id itself where the data have no titles

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, name: str) -> int:
        """The index of the item that a person means.

        It is, in this order, the item of this title, of this title without its year, of this id, or the only one
        whose title has this part; the case of letters decides only between items that differ in nothing else.
        ``id=50`` is an id, even where a title is 50.

        Raises:
            ValueError: no item is meant, or several could be; the message has the nearest titles, or theirs.
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
        """What names one item alone: its title, with its id where another item has the same title."""
        title = self.titles[place]
        return title if len(self._titles[0][title]) == 1 else f"{title} ({_ID}{self.ids[place]})"

    def _only(self, found: Sequence[int], wanted: str) -> int:
        """The one place that was found; ValueError where there are several."""
        if len(found) == 1:
            return found[0]
        labels = [self.label(place) for place in found]
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        are_alike = any(label not in self._titles[0] for label in labels)
        remedy = f"name one by its id, as in {_ID}{self.ids[found[0]]}" if are_alike else "give the whole title of one"
        raise ValueError(f"{wanted!r} can be several items: {' | '.join(labels[:_SHOWN])}{more}; {remedy}")

    def to_bytes(self) -> bytes:
        """As JSON, which a run keeps."""
        return json.dumps({"ids": self.ids, "titles": self.titles}, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Catalogue:
        """What `to_bytes` made."""
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
