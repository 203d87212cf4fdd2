"""Atomic writes: a file is written under a temporary name, synced, renamed, and its folder is synced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def fsync_path(path: Path) -> None:
    """Flush the data of a file, or the entries of a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; at the end of the block it replaces ``path``.

    A reader, or a crash, sees the old file or the new one; a block that fails leaves nothing behind. The file's mode
    follows the umask, even if the library that writes it chooses another.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        fsync_path(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a small file atomically: a reader, or a crash, sees the old one or the new one; text is UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def dump_json(value: Any) -> str:
    """Return JSON with sorted keys: equal values have equal bytes. NaN and infinities raise ValueError."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
