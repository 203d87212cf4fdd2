"""The items that a recommender knows, and how a person names them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

CATALOGUE_FILE = "items.json"  # in a run's data folder
_YEAR = re.compile(r" \(\d{4}\)$")


@dataclass(frozen=True)
class Catalogue:
    """V items: the id that the data give each, and its title."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]  # the id itself where the data have no titles

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, name: str) -> int:
        """The index of the item that a person means: its id or its title, whole, without the year, or a part of it.

        Raises:
            ValueError: no item, or several, are meant; the message has the nearest titles.
        """
        wanted = name.strip().casefold()
        for names in self._names:
            if wanted in names:
                return names[wanted]
        holding = [place for place, title in enumerate(self.titles) if wanted and wanted in title.casefold()]
        if len(holding) == 1:
            return holding[0]
        near = [self.titles[place] for place in holding[:5]] or self._nearest(wanted)
        hint = f"; did you mean {' | '.join(near)}?" if near else ""
        raise ValueError(f"{'several items have' if holding else 'no item has'} {name.strip()!r} in its title{hint}")

    def to_bytes(self) -> bytes:
        """As JSON, which a run keeps."""
        return json.dumps({"ids": self.ids, "titles": self.titles}, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Catalogue:
        """What `to_bytes` made."""
        fields = json.loads(content)
        return cls(tuple(fields["ids"]), tuple(fields["titles"]))

    @cached_property
    def _names(self) -> tuple[Mapping[str, int], ...]:
        """The ways to name an item, the surest first; of several items with one title the first is meant."""
        folded = [title.casefold() for title in self.titles]
        ways = (self.ids, folded, [_YEAR.sub("", title) for title in folded])
        return tuple({str(name).casefold(): place for place, name in reversed(list(enumerate(way)))} for way in ways)

    def _nearest(self, wanted: str) -> list[str]:
        titles = {_YEAR.sub("", title.casefold()): title for title in self.titles}
        return [titles[name] for name in difflib.get_close_matches(wanted, titles, n=3)]
