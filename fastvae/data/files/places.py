"""Where published data are looked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads go: ``$XDG_CACHE_HOME/fastvae``, by default ``~/.cache/fastvae``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastvae"


def data_places(folders: Sequence[str], directory: Path | None = None) -> list[Path]:
    """The folders that may hold a data set, in the order in which they are looked at.

    Args:
        folders: its folder's names below a data directory.
        directory: such a directory, looked at first; then come ``$FASTVAE_DATA`` and the cache.
    """
    roots = [] if directory is None else [directory]
    if environment := os.environ.get("FASTVAE_DATA"):
        roots.append(Path(environment).expanduser())
    return [root / folder for root in (*roots, cache_folder()) for folder in folders]


def find_file(name: str, folders: Sequence[str], files: Sequence[str], directory: Path | None, remedy: str) -> Path:
    """The first of these files, by name, that one of the places has; ``directory`` itself is looked at too.

    Args:
        name: how the message calls the data.
        folders: see `data_places`.
        files: names (of files or folders) that would do, the better ones first.
        directory: see `data_places`.
        remedy: where the data can be had.

    Raises:
        ValueError: none is there; the message names the places and the remedy.
    """
    places = [*([] if directory is None else [directory]), *data_places(folders, directory)]
    for file in files:
        for place in places:
            if (place / file).exists():
                return place / file
    searched = ", ".join(str(place) for place in places)
    raise ValueError(f"{name}: {' or '.join(files)} is in none of {searched}; {remedy}")
