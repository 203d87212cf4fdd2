"""Which rank failed first, and on which host: one answer for all ranks, also where a peer died without a word."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

_GRACE_S = 5.0  # how long a rank that is alive may take to say so
_FOREVER = timedelta(days=365)
# What PyTorch says where the fault is at the other end; gloo's errors are plain RuntimeErrors.
_LOST_PEER = ("gloo/transport", "Application timeout caused pair closure", "NCCL", "Connection closed by")
_SILENT = ("Timed out", "timed out", "timeout")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where a run went wrong first."""

    rank: int
    host: str
    reason: str
    reporter: int  # the rank that shows it in full: the one that failed, or the first that missed it

    @property
    def where(self) -> str:
        """The rank and its host, as messages call it."""
        return f"rank {self.rank} on {self.host}"

    def seen_from(self, rank: int) -> str:
        """What the process of another rank says as it ends: all of it where nobody else will."""
        if rank in (self.reporter, self.rank):
            return f"{self.where}: {self.reason}"
        first_line = self.reason.partition("\n")[0]
        return f"rank {rank} on {socket.gethostname()} ends because {self.where} failed first: {first_line[:160]}"


def failure_here(rank: int, error: Exception) -> Failure:
    """The failure that this process's own error is."""
    return Failure(rank=rank, host=socket.gethostname(), reason=f"{type(error).__name__}: {error}", reporter=rank)


class PeerFailed(RuntimeError):
    """This process ends because of another one; the message names it."""


class Roster:
    """Every rank's host and process, and who failed first: kept in the store that the ranks met through.

    A thread of each rank sleeps in the store until the rank is done or a run is in trouble. Then it answers even while
    the rank itself waits in a collective, so who does not answer is dead, frozen or cut off. The rank that meets the
    trouble first does the asking, and writes down one verdict for all. The store is served from rank 0's host; where
    that is out of reach, that is the verdict.

    Args:
        store: that of the process group.
        rank, world_size: this process among all.
        timeout_s: that of the process group, for the message.
        on_failure: called once with the verdict, in whatever thread learns of it first.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world_size: int,
        timeout_s: float,
        on_failure: Callable[[Failure], None] | None = None,
    ) -> None:
        self._store, self._rank, self._world_size, self._timeout_s = store, rank, world_size, timeout_s
        self._on_failure, self._host = on_failure or (lambda failure: None), socket.gethostname()
        self._verdict: Failure | None = None
        self._stood: str | None = None  # where this rank was when it raised
        self._lock = threading.Lock()
        store.set(f"member/{rank}", f"{self._host} {os.getpid()}")
        self._thread = threading.Thread(target=self._watch, args=(store.clone(),), daemon=True)  # type: ignore[attr-defined]
        self._thread.start()

    def close(self) -> None:
        """This rank is done: let the thread go."""
        _if_in_reach(lambda: _within(_GRACE_S, lambda: self._store.set(f"call/{self._rank}", "done")))
        self._thread.join(_GRACE_S)

    def diagnose(self, error: Exception) -> Failure:
        """What made the run fail: the same on every rank that reaches the store. Signals wait until it is known."""
        with _signals_held():
            own = failure_here(self._rank, error)
            self._stood = _place([frame for frame, _ in traceback.walk_tb(error.__traceback__)])
            lost = is_lost_peer(error)
            found = _if_in_reach(lambda: _within(4 * _GRACE_S, lambda: self._ask(own) if lost else self._record(own)))
            return self._settle(found or (self._cut_off(own) if lost else own))

    def _watch(self, store: dist.Store) -> None:
        _if_in_reach(lambda: self._answer(store))

    def _answer(self, store: dist.Store) -> None:
        """Sleep until this rank is done or called; then say where it stands, and hear what the matter is."""
        store.wait([f"call/{self._rank}"], _FOREVER)
        if store.get(f"call/{self._rank}") == b"done":
            return
        store.set(f"alive/{self._rank}", self._place())
        store.add("alive", 1)
        store.wait(["first"], timedelta(seconds=4 * _GRACE_S))
        self._settle(_parse(store.get("first")))
        store.add("told", 1)

    def _place(self) -> str:
        """Where this rank's main thread is; if it is in this file, where it was when it raised."""
        for _ in range(20):
            place = self._stood or _place(_main_frames())
            if not place.startswith(("failure.py", "world.py")):
                break
            time.sleep(0.05)
        return place

    def _settle(self, failure: Failure) -> Failure:
        with self._lock:
            news = self._verdict is None
            self._verdict = self._verdict or failure
        if news:
            self._on_failure(self._verdict)
        return self._verdict

    def _record(self, failure: Failure, num_alive: int | None = None) -> Failure:
        """The first failure that anyone wrote down, which may be this one; every other rank is told."""
        first = _parse(self._store.compare_set("first", "", json.dumps(asdict(failure))))
        if first == failure:
            self._call_all()
            self._wait_for("told", num_alive or self._world_size)  # before the store goes away with this process
        return first

    def _ask(self, own: Failure) -> Failure:
        """Find out who is missing, unless another rank is at it already."""
        if self._store.compare_set("asks", "", str(self._rank)) != str(self._rank).encode():
            self._store.wait(["first"], timedelta(seconds=3 * _GRACE_S))
            return _parse(self._store.get("first"))
        self._call_all()
        num_alive = self._wait_for("alive", self._world_size)
        return self._record(self._missing(own), num_alive)

    def _call_all(self) -> None:
        for rank in range(self._world_size):
            self._store.set(f"call/{rank}", "trouble")

    def _wait_for(self, counter: str, count: int) -> int:
        """Wait until so many ranks have answered, or for the time that they have; returns how many did."""
        deadline = time.monotonic() + _GRACE_S
        while (answers := self._store.add(counter, 0)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return answers

    def _missing(self, own: Failure) -> Failure:
        silent = [rank for rank in range(self._world_size) if not self._store.check([f"alive/{rank}"])]
        if not silent:
            return self._stuck(own)
        host, process = self._store.get(f"member/{silent[0]}").decode("utf-8").rsplit(" ", 1)
        others = f" (nor do {len(silent) - 1} more, such as rank {silent[1]})" if len(silent) > 1 else ""
        reason = f"process {process} does not answer{others}. {self._advice(own, silent[0], host)}"
        return Failure(rank=silent[0], host=host, reason=reason, reporter=self._rank)

    def _stuck(self, own: Failure) -> Failure:
        """All answer, so one works or waits elsewhere than the others: the place where the fewest stand."""
        places = {rank: self._store.get(f"alive/{rank}").decode("utf-8") for rank in range(self._world_size)}
        crowds = Counter(places.values())
        odd = min(places, key=lambda rank: (crowds[places[rank]], rank == self._rank, rank))
        host, process = self._store.get(f"member/{odd}").decode("utf-8").rsplit(" ", 1)
        reason = (
            f"every rank is alive, but after {self._timeout_s:g} s this one stands at {places[odd]}, rank {self._rank} "
            f"at {places[self._rank]}. If it may take so long, raise --train.timeout; if not, `py-spy dump --pid "
            f"{process}` on {host} says what it waits for"
        )
        return Failure(rank=odd, host=host, reason=reason, reporter=self._rank)

    def _cut_off(self, own: Failure) -> Failure:
        host = os.environ.get("MASTER_ADDR", "the head's host")
        reason = f"its host is out of reach from rank {self._rank} on {self._host}. {self._advice(own, 0, host)}"
        return Failure(rank=0, host=host, reason=reason, reporter=self._rank)

    def _advice(self, own: Failure, rank: int, host: str) -> str:
        if any(text in own.reason for text in _SILENT):
            return (
                f"Nothing came for {self._timeout_s:g} s (--train.timeout). {_LINK}, and on {host} whether the process "
                f"hangs (py-spy dump). A rank that may work longer in silence wants a longer --train.timeout"
            )
        return (
            f"It closed its connections: look at logs/rank_{rank}.log in the run directory, and on {host} at dmesg "
            "for a process that was killed for its memory"
        )


_LINK = "Look at the link between the hosts (ip -s link, ping, firewall; GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)"


def is_lost_peer(error: Exception) -> bool:
    """Whether an error says that another process is gone or silent, rather than that this one did something wrong."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _LOST_PEER)
    )


def _main_frames() -> list[FrameType]:
    """The stack of the main thread, outermost first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return [each for each, _ in traceback.walk_stack(frame)][::-1]


def _place(frames: Sequence[FrameType]) -> str:
    """``file:line in function`` of the innermost frame that is not PyTorch's."""
    torch_root = str(Path(dist.__file__).parents[1])
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(torch_root)] or frames
    if not own:
        return "an unknown place"
    code = own[-1].f_code
    return f"{Path(code.co_filename).name}:{own[-1].f_lineno} in {code.co_name}"


def _parse(record: bytes) -> Failure:
    return Failure(**json.loads(record))


def _if_in_reach(call: Callable[[], T]) -> T | None:
    """The result, or None where the store does not answer: its host is down or cut off, or is done and has left."""
    try:
        return call()
    except (dist.DistError, TimeoutError, OSError):
        return None
    except RuntimeError as error:  # what a broken connection is raised as depends on where it broke
        if not any(text in str(error) for text in ("TCPStore", "Broken pipe", "Connection")):
            raise
        return None


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The result of ``call``, in a thread of its own: a store's operation may wait for ever on a silent link."""
    results: list[T] = []
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  raised again where the caller waits
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return results[0]


@contextmanager
def _signals_held() -> Iterator[None]:
    """A launcher that sees one process die stops the others at once; let this one say why first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
