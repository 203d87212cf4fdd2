"""Index of a folder of shards, built once and stored with them, so that a run starts without opening shards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

INDEX = ".fastvae-index"
TABLE = "table.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of examples."""

    name: str
    num_bytes: int
    num_examples: int
    offset: int = 0  # of the values, in a file with one array


@dataclass(frozen=True, kw_only=True)
class Table:
    """The shards in the order of their names, and the common properties of all examples."""

    shards: tuple[Shard, ...]
    event_shape: tuple[int, ...]  # as stored
    dtype: str  # as stored, in NumPy's words
    has_labels: bool = False


def shard_names(folder: Path, suffix: str) -> list[str]:
    """The names of a folder's shards, sorted; sub-folders and hidden files are skipped."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.endswith(suffix) and entry.name[0] != ".")


def load_table(folder: Path, suffix: str, build: Callable[[list[str], Path], Table]) -> tuple[Table, Path]:
    """Return the index of a folder's shards and its directory; it is built if it is missing or outdated.

    It is stored in ``FOLDER/.fastvae-index``, or in the cache directory if the folder is read-only. It is written
    atomically; if several processes need it at once, one builds it and the others wait.

    Args:
        folder: folder of the shards.
        suffix: suffix of their names.
        build: builds the index from the names of the shards; may write more files into the given directory.

    Raises:
        ValueError: from ``build``: a shard is unsuitable.
    """
    names = shard_names(folder, suffix)
    homes = (folder / INDEX, _cache(folder))
    for home in homes:
        if (table := _read(home, names)) is not None:
            return table, home
    home = homes[0] if os.access(folder, os.W_OK) else homes[1]
    home.parent.mkdir(parents=True, exist_ok=True)
    lock = home.with_name(home.name + ".lock")
    with filelock.FileLock(lock):
        if (table := _read(home, names)) is None:
            table = _make(home, names, build)
    return table, home


def _read(home: Path, names: Sequence[str]) -> Table | None:
    """Read the index if it describes these shards; otherwise it is built again."""
    try:
        kept = json.loads((home / TABLE).read_text(encoding="utf-8"))
        shards = tuple(Shard(**shard) for shard in kept["shards"])
        shape = tuple(int(size) for size in kept["event_shape"])
        table = Table(shards=shards, event_shape=shape, dtype=kept["dtype"], has_labels=bool(kept["has_labels"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return table if kept.get("format") == _FORMAT and [shard.name for shard in shards] == list(names) else None


def _make(home: Path, names: list[str], build: Callable[[list[str], Path], Table]) -> Table:
    scratch = Path(tempfile.mkdtemp(prefix=home.name + "-", dir=home.parent))
    try:
        table = build(names, scratch)
        (scratch / TABLE).write_text(json.dumps({"format": _FORMAT, **asdict(table)}), encoding="utf-8")
        scratch.chmod(0o755)
        shutil.rmtree(home, ignore_errors=True)
        scratch.rename(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return table


def _cache(folder: Path) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastvae" / "index"
    return root / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
