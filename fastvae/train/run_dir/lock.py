"""The lock of a run directory, which names the process that holds it and becomes stale when that process ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fastvae.distributed import World
from fastvae.train.run_dir.files import dump_json, write_atomic
from fastvae.train.run_dir.run_dir import RunDir

BEAT_S = 10.0
STALE_S = 60.0


class RunLock:
    """The lock of a run directory while this process holds it.

    The process that holds it touches the file every ``BEAT_S`` seconds. A lock is stale if its process no longer exists
    on this host (compared by process ID, start time, boot and process namespace, since a process ID may be reused), if
    the same Slurm job or torchrun was started again, or, if its process is not visible from this host, if the file was
    not touched for ``STALE_S`` seconds by the file system's clock.
    """

    def __init__(self, run_dir: Path, owner: Mapping[str, Any]) -> None:
        self._path = RunDir(run_dir).lock
        self._owner = dict(owner)
        self._released = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="fastvae-lock", daemon=True)

    def start(self) -> None:
        """Start to touch the file."""
        self._beat.start()

    def check(self) -> None:
        """Check that no other process took over the directory, as can happen if this one was suspended.

        Raises:
            RuntimeError: another process holds the lock; the message names it.
        """
        holder = read_lock(self._path)
        if holder is None or holder.get("token") != self._owner["token"]:
            raise RuntimeError(
                f"{self._path.parent} was taken over by {describe(holder)}; this run stops writing to it"
            )

    def release(self) -> None:
        """Stop touching the file and remove it, if this process still holds it."""
        self._released.set()
        self._beat.join()
        holder = read_lock(self._path)
        if holder is not None and holder.get("token") == self._owner["token"]:
            with suppress(OSError):  # the disk is not available: the lock is stale once this process has ended
                self._path.unlink(missing_ok=True)

    def _keep_alive(self) -> None:
        while not self._released.wait(BEAT_S):
            holder = read_lock(self._path)
            if holder is None or holder.get("token") != self._owner["token"]:
                return  # the next save reports it
            with suppress(OSError):  # other processes decide what a missed heartbeat means
                os.utime(self._path)


@contextmanager
def hold(run_dir: Path, *, report: Callable[[str], None]) -> Iterator[RunLock]:
    """Hold the run directory's lock while the block runs.

    Raises:
        ValueError: another run holds it; the message names its process and the age of its last heartbeat.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    owner = this_process()
    with _guarded(run_dir):
        path = RunDir(run_dir).lock
        holder = read_lock(path)
        if holder is not None or path.exists():
            stale = why_stale(path, holder)
            if stale is None:
                raise ValueError(
                    f"{run_dir} is in use by {describe(holder)}, last sign of life {_age_s(path):.0f} s ago; stop that "
                    "run, or choose another --run-dir"
                )
            report(f"took over {run_dir} from {describe(holder)}: {stale}")
        write_atomic(path, dump_json(owner))
    lock = RunLock(run_dir, owner)
    lock.start()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def hold_together(run_dir: Path, world: World) -> Iterator[RunLock | None]:
    """Hold the lock on rank 0 for all ranks; the other ranks get None.

    Raises:
        ValueError: another run holds it, or the directory cannot be written; raised on all ranks.
    """
    with ExitStack() as stack:
        lock, error = None, None
        if world.is_main:
            try:
                lock = stack.enter_context(hold(run_dir, report=_report))
            except (ValueError, OSError) as problem:
                error = str(problem)
        error = world.broadcast_text(error)
        if error is not None:
            raise ValueError(error)
        yield lock


def _report(text: str) -> None:
    print(f"fastvae: {text}", file=sys.stderr, flush=True)


def this_process() -> dict[str, Any]:
    """Return the identity of this process, which differs from that of any other, even with the same process ID."""
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "boot": _read(Path("/proc/sys/kernel/random/boot_id")),
        "pid_namespace": _namespace(),
        "pid": os.getpid(),
        "started": _start_ticks(os.getpid()),
        "launch": this_launch(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def why_stale(path: Path, holder: Mapping[str, Any] | None) -> str | None:
    """Return why a lock is stale, or None if its run may still be alive."""
    me = this_process()
    if holder is not None:
        if is_earlier_start(holder.get("launch")):
            return f"this is a later start of the same {me['launch']['name']}"
        seen_from_here = all(holder.get(key) == me[key] for key in ("boot", "pid_namespace"))
        if seen_from_here and holder.get("started") is not None:
            if _start_ticks(int(holder.get("pid", 0))) != holder.get("started"):
                return "that process has ended"
            return None
    age = _age_s(path)
    return f"no sign of life for {age:.0f} s" if age > STALE_S else None


def read_lock(path: Path) -> dict[str, Any] | None:
    """Read a lock file; None if it does not exist or cannot be parsed."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def describe(holder: Mapping[str, Any] | None) -> str:
    """Describe the holder of a lock in a message."""
    if holder is None:
        return "an unidentified process"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')})"


@contextmanager
def _guarded(run_dir: Path) -> Iterator[None]:
    """Exclude all other processes that try to take this directory's lock."""
    with RunDir(run_dir).lock_guard.open("w") as file:
        with suppress(
            OSError
        ):  # a file system without locks: checking and taking are then not atomic, but only milliseconds apart
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _age_s(path: Path) -> float:
    """Seconds since the file was touched, both times by the file system's clock."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.now")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    finally:
        probe.unlink(missing_ok=True)


def this_launch() -> dict[str, Any] | None:
    """Return the name of the job that started this process and its number of restarts; None without a job."""
    for name, identity, restart in (
        ("Slurm job", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"),
        ("torchrun", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    ):
        value = os.environ.get(identity, "none")
        if value != "none":
            starts = [int(os.environ.get(key, "0") or 0) for key in (restart, "TORCHELASTIC_RESTART_COUNT")]
            return {"name": f"{name} {value}", "restart": starts}
    return None


def is_earlier_start(launch: Mapping[str, Any] | None) -> bool:
    """Whether a launch, from an earlier call of `this_launch`, is an earlier start of this process's job."""
    ours = this_launch()
    return bool(launch and ours and launch["name"] == ours["name"] and launch["restart"] < ours["restart"])


def _start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it does not exist."""
    text = _read(Path(f"/proc/{pid}/stat"))
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()  # after the command's name, which may contain any character
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
