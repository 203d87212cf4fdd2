"""One run directory, one run: a lock that says who holds it, and that outlives no process."""

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

    Whoever holds it touches the file every ``BEAT_S`` seconds. A lock is stale when its process is gone from this host
    (told by process id, start time, boot and process namespace: a number that another process got since is no sign of
    life), when the same Slurm job or torchrun was started again, or, where its process cannot be seen from here, when
    it was not touched for ``STALE_S`` seconds by the file system's own clock.
    """

    def __init__(self, run_dir: Path, owner: Mapping[str, Any]) -> None:
        self._path = RunDir(run_dir).lock
        self._owner = dict(owner)
        self._released = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="fastvae-lock", daemon=True)

    def start(self) -> None:
        """Begin to touch the file."""
        self._beat.start()

    def check(self) -> None:
        """Make sure that no other process took the directory over, as it may after a long sleep of this one.

        Raises:
            RuntimeError: names who has it now.
        """
        holder = read_lock(self._path)
        if holder is None or holder.get("token") != self._owner["token"]:
            raise RuntimeError(
                f"{self._path.parent} was taken over by {describe(holder)}; this run stops writing to it"
            )

    def release(self) -> None:
        """Stop touching the file and remove it, if it is still this process's."""
        self._released.set()
        self._beat.join()
        holder = read_lock(self._path)
        if holder is not None and holder.get("token") == self._owner["token"]:
            with suppress(OSError):  # a disk that went away: the lock is stale as soon as this process has ended
                self._path.unlink(missing_ok=True)

    def _keep_alive(self) -> None:
        while not self._released.wait(BEAT_S):
            holder = read_lock(self._path)
            if holder is None or holder.get("token") != self._owner["token"]:
                return  # the next save finds out and says so
            with suppress(OSError):  # a beat missed is a beat missed; what it means is for the others to judge
                os.utime(self._path)


@contextmanager
def hold(run_dir: Path, *, say: Callable[[str], None]) -> Iterator[RunLock]:
    """Hold the run directory's lock while the block runs.

    Raises:
        ValueError: another run holds it; says who, and since when there was no sign of life.
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
            say(f"took over {run_dir} from {describe(holder)}: {stale}")
        write_atomic(path, dump_json(owner))
    lock = RunLock(run_dir, owner)
    lock.start()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def hold_together(run_dir: Path, world: World) -> Iterator[RunLock | None]:
    """Hold the lock on rank 0, for all ranks; the others get None.

    Raises:
        ValueError: on all ranks: another run holds it, or the directory cannot be written.
    """
    with ExitStack() as stack:
        lock, error = None, None
        if world.is_main:
            try:
                lock = stack.enter_context(hold(run_dir, say=_say))
            except (ValueError, OSError) as problem:
                error = str(problem)
        error = world.broadcast_text(error)
        if error is not None:
            raise ValueError(error)
        yield lock


def _say(text: str) -> None:
    print(f"fastvae: {text}", file=sys.stderr, flush=True)


def this_process() -> dict[str, Any]:
    """Who asks: enough to tell this process from any other, also one with the same number."""
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
    """Why a lock may be taken over, in words; None if its run may live."""
    me = this_process()
    if holder is not None:
        if is_earlier_start(holder.get("launch")):
            return f"this is a later start of the same {me['launch']['name']}"
        seen_from_here = all(holder.get(key) == me[key] for key in ("boot", "pid_namespace"))
        if seen_from_here and holder.get("started") is not None:
            if _start_ticks(int(holder.get("pid", 0))) != holder.get("started"):
                return "that process is gone"
            return None
    age = _age_s(path)
    return f"no sign of life for {age:.0f} s" if age > STALE_S else None


def read_lock(path: Path) -> dict[str, Any] | None:
    """What a lock file says; None where there is none, or nothing that can be understood."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def describe(holder: Mapping[str, Any] | None) -> str:
    """The holder for people."""
    if holder is None:
        return "a process that did not say who it is"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')})"


@contextmanager
def _guarded(run_dir: Path) -> Iterator[None]:
    """Alone among all processes that would take this directory's lock now."""
    with RunDir(run_dir).lock_guard.open("w") as file:
        with suppress(
            OSError
        ):  # a file system without locks: judging and taking are then two steps, as far apart as ms
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _age_s(path: Path) -> float:
    """Seconds since the file was touched, both times by the clock of the file system that it is on."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.now")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    finally:
        probe.unlink(missing_ok=True)


def this_launch() -> dict[str, Any] | None:
    """The name of the job that started this process, and how often it was started again; None without a job."""
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
    """Whether a launch, as `this_launch` gave it then, is an earlier start of the job that started this process."""
    ours = this_launch()
    return bool(launch and ours and launch["name"] == ours["name"] and launch["restart"] < ours["restart"])


def _start_ticks(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None if there is no such process."""
    text = _read(Path(f"/proc/{pid}/stat"))
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()  # after the command's name, which may hold anything
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
