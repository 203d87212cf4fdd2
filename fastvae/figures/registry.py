"""How each kind of data is shown: a new kind is a file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from fastvae.data import Data
from fastvae.figures.audio import AudioRenderer
from fastvae.figures.images import ImageRenderer
from fastvae.figures.items import ItemRenderer
from fastvae.figures.numbers import NumberRenderer
from fastvae.figures.text import TextRenderer


class Renderer(Protocol):
    """Writes what a person would look at."""

    suffix: str
    """What a file's name ends with; empty where several files make a folder, which ``path`` then names."""

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """Examples [N, ...], as `VAE.generate` gives them."""
        ...

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Examples [N, ...] (a batch's target) and what the model makes of them."""
        ...

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """R rows of S examples each, [R, S, ...], and a name for each row: traversals, interpolations."""
        ...


RENDERERS: dict[str, Renderer] = {  # by `Data.kind`
    "image": ImageRenderer(),
    "interactions": ItemRenderer(),
    "audio": AudioRenderer(),
    "vector": NumberRenderer(),
    "table": NumberRenderer(),
    "text": TextRenderer(),
}


def find_renderer(data: Data) -> Renderer:
    """The renderer of the data's kind; plain numbers for a kind that has none."""
    return RENDERERS.get(data.kind, RENDERERS["vector"])
