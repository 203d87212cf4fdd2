"""Files that are whole or not there: written beside their name, synced, renamed, and the folder synced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def fsync_path(path: Path) -> None:
    """Have the operating system put a file's data, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that this gives, beside ``path``; at the block's end it takes its place.

    A reader, or a crash, sees the old file or the new one; a block that fails leaves nothing behind. The file's mode
    obeys the umask, whatever the library that writes it chooses.
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
    """Write a small file so that a reader, or a crash, sees the old one or the new one; text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def dump_json(value: Any) -> str:
    """JSON with sorted keys: equal values give equal bytes. NaN and infinities are refused."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
