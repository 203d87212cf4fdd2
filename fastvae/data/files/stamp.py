"""Whether a user's own file is still the one that a run was trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fastvae.data.dataset import State
from fastvae.data.files.folders import is_hidden

STAMP_FILE = "file.json"  # in a run's data folder
_PIECE_BYTES = 2**20


def stamp_of(path: Path, num_examples: int) -> bytes:
    """Return the name of a file or folder, its number of examples and a digest of its contents, as JSON.

    The digest of a folder covers the names and sizes of its files, except those that start with a dot.
    """
    return json.dumps({"name": path.name, "num_examples": num_examples, "sha256": _digest(path)}).encode()


def why_unreadable(path: Path, state: State) -> str | None:
    """Return why a finished run cannot read its examples (missing or changed), or None if it can.

    Args:
        path: the run's own file or folder.
        state: stored state of the run's data; empty for a new run.
    """
    if not state:
        return None
    if not path.exists():
        return f"{path}: no such file or folder"
    name, num_examples, digest = _read(state.get(STAMP_FILE, b""))
    if name != path.name or digest == _digest(path):
        return None
    return (
        f"{path} has changed since the run was trained on its {num_examples} examples, so that it is unknown which of"
        " them are test examples"
    )


def why_changed(kept: State, new: State) -> str | None:
    """Describe how a run's file differs from the present one; None if it does not, or is unknown.

    Args:
        kept: stored state of the run's data.
        new: state of the present data.
    """
    if STAMP_FILE not in kept or STAMP_FILE not in new:
        return None
    (_, then, old_digest), (name, now, digest) = _read(kept[STAMP_FILE]), _read(new[STAMP_FILE])
    return None if digest == old_digest else f"{name} has other contents, {now} examples instead of {then}"


def _read(content: bytes) -> tuple[str, int, str]:
    try:
        kept = json.loads(content)
        return str(kept["name"]), int(kept["num_examples"]), str(kept["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{STAMP_FILE} of the run does not describe the file that it was trained on") from None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
        return digest.hexdigest()
    for file_path in sorted(each for each in path.rglob("*") if each.is_file()):
        if is_hidden(file_path, path):
            continue
        digest.update(f"{file_path.relative_to(path).as_posix()} {file_path.stat().st_size}\n".encode())
    return digest.hexdigest()
