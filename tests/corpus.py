"""A small language of two moods, for tests of text: sentences of any length that reveal their label."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = {"good": ("lovely", "bright", "warm", "kind"), "bad": ("dull", "grey", "cold", "cruel")}
NOUNS = ("film", "song", "day", "house", "dog")


def sentence(label: str, length: int, draw: random.Random) -> str:
    """``length`` words: an article, words of the label's mood, and a noun."""
    middle = [draw.choice(WORDS[label]) for _ in range(max(0, length - 2))]
    return " ".join(["a", *middle, draw.choice(NOUNS)][:length])


def rows(num: int, *, seed: int = 0, longest: int = 8) -> list[tuple[str, str]]:
    """Return (label, sentence) pairs with alternating labels and 3 to ``longest`` words."""
    draw = random.Random(seed)
    labels = [("good", "bad")[number % 2] for number in range(num)]
    return [(label, sentence(label, draw.randint(3, longest), draw)) for label in labels]


def write(path: Path, num: int, *, seed: int = 0) -> Path:
    """The rows as a TSV with a header."""
    lines = ["label\tsentence", *("\t".join(row) for row in rows(num, seed=seed))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
