"""Fetching published files: mirrors, checksums, one process at a time, atomic writes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

_CHUNK_BYTES = 2**16
_LOCK_TIMEOUT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A published file."""

    name: str
    num_bytes: int
    sha256: str
    mirrors: tuple[str, ...]
    """URLs of folders that contain ``name``, tried in order."""
    crc32: int
    """CRC-32 of its decompressed content: it identifies recompressed or decompressed copies."""


def fetch(file: RemoteFile, folder: Path, *, timeout_s: float = 20.0, show_progress: bool = True) -> Path:
    """Return ``folder / file.name``, downloading it from the first mirror that has it if it is missing.

    Any number of processes may call this at once: one downloads, the others wait for it. The data are written to a
    temporary file in the same folder, which is renamed only if size and SHA-256 are right.

    Args:
        file: file to download.
        folder: folder to download to; created if missing.
        timeout_s: timeout of a mirror in seconds.
        show_progress: show a progress bar on stderr if it is a terminal (a line otherwise).

    Raises:
        ValueError: no mirror has the file, or the folder cannot be written; the message states the remedy.
    """
    path = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock", timeout=_LOCK_TIMEOUT_S):
            if not path.is_file():
                _download(file, path, timeout_s, show_progress)
    except Timeout as error:
        raise ValueError(f"{path}: another process holds {error.lock_file} for {_LOCK_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise ValueError(f"cannot write {file.name} to {folder} ({error}); {_by_hand(file, folder)}") from error
    return path


def _download(file: RemoteFile, path: Path, timeout_s: float, show_progress: bool) -> None:
    failures = []
    for mirror in file.mirrors:
        url = mirror.rstrip("/") + "/" + file.name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            _copy(url, temporary, file, timeout_s, show_progress)
            os.replace(temporary, path)
            return
        except _MirrorError as error:
            failures.append(f"  {url}: {error}")
        finally:
            temporary.unlink(missing_ok=True)
    raise ValueError(f"could not download {file.name}; {_by_hand(file, path.parent)}:\n" + "\n".join(failures))


def _by_hand(file: RemoteFile, folder: Path) -> str:
    return f"obtain the file with sha256 {file.sha256} and put it into {folder}"


class _MirrorError(Exception):
    """A mirror did not provide the file; the next one is tried."""


def _copy(url: str, path: Path, file: RemoteFile, timeout_s: float, show_progress: bool) -> None:
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as out, _progress(file, show_progress) as advance:
        for piece in _pieces(url, timeout_s):
            done += len(piece)
            if done > file.num_bytes:  # do not fill the disk with data of a wrong server
                raise _MirrorError(f"sent more than the {file.num_bytes} bytes published")
            digest.update(piece)
            out.write(piece)
            advance(len(piece))
        out.flush()
        os.fsync(out.fileno())
    if done != file.num_bytes:
        raise _MirrorError(f"sent {done} bytes of {file.num_bytes}")
    if digest.hexdigest() != file.sha256:
        raise _MirrorError(f"sent a file with sha256 {digest.hexdigest()}")


def _pieces(url: str, timeout_s: float) -> Iterator[bytes]:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "fastvae"})
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            yield from _read_all(response)
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and time-outs are OSErrors
        raise _MirrorError(str(error) or type(error).__name__) from error


def _read_all(response: IO[bytes]) -> Iterator[bytes]:
    while piece := response.read(_CHUNK_BYTES):
        yield piece


@contextlib.contextmanager
def _progress(file: RemoteFile, shown: bool) -> Iterator[Callable[[int], None]]:
    from rich import progress  # imported here: loading a finished run downloads nothing
    from rich.console import Console

    console = Console(stderr=True)
    if shown and not console.is_terminal:
        print(f"downloading {file.name} ({file.num_bytes / 2**20:.1f} MiB)", file=sys.stderr, flush=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        yield functools.partial(bar.advance, bar.add_task(file.name, total=file.num_bytes))
