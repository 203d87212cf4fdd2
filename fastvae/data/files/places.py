"""Folders in which published data are searched for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def cache_folder() -> Path:
    """Folder of downloads: ``$XDG_CACHE_HOME/fastvae``, by default ``~/.cache/fastvae``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastvae"


def data_places(folders: Sequence[str], directory: Path | None = None) -> list[Path]:
    """Return the folders that may contain a data set, in the order of the search.

    Args:
        folders: its folder's names below a data directory.
        directory: such a directory, searched first; then ``$FASTVAE_DATA`` and the cache.
    """
    roots = [] if directory is None else [directory]
    if environment := os.environ.get("FASTVAE_DATA"):
        roots.append(Path(environment).expanduser())
    return [root / folder for root in (*roots, cache_folder()) for folder in folders]


def find_file(name: str, folders: Sequence[str], files: Sequence[str], directory: Path | None, remedy: str) -> Path:
    """Return the first of these files, by name, in one of the folders; ``directory`` itself is searched too.

    Args:
        name: name of the data in the message.
        folders: see `data_places`.
        files: names (of files or folders) in order of preference.
        directory: see `data_places`.
        remedy: how to obtain the data.

    Raises:
        ValueError: none exists; the message lists the searched folders and the remedy.
    """
    places = [*([] if directory is None else [directory]), *data_places(folders, directory)]
    for file in files:
        for place in places:
            if (place / file).exists():
                return place / file
    searched = ", ".join(str(place) for place in places)
    raise ValueError(f"{name}: {' or '.join(files)} is in none of {searched}; {remedy}")
