"""Every rank's host and process, the first failure, and the deadline by which every process ends after it."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from fastvae.distributed.peers.failure import (
    Failure,
    error_place,
    failure_here,
    if_in_reach,
    is_peer_error,
    main_place,
    signals_held,
    within,
)
from fastvae.distributed.peers.heartbeat import PERIOD_S, Clock, Heartbeat

T = TypeVar("T")

WAY_OUT_S = 4.5  # from the detection of a failure by a rank to the end of its process
_ROLL_CALL_S = 2.0  # time for a live rank to answer
_LEAVE_S = 1.2  # time to leave normally, after the others have read the verdict or missed it
_MARGIN_S = 0.3  # between the end of a wait in the store and that of the thread that waits for it
_POLL_S = 0.05
_SILENT = ("Timed out", "timed out", "timeout")
_LINK = "the link between the hosts (ip -s link, ping, firewall; GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)"


def to_stderr(text: str) -> None:
    """Write a message without Python's buffers."""
    os.write(2, text.encode())


class Roster:
    """Monitors the ranks of a run through the store of the rendezvous, and ends this process in time.

    Two threads run besides the collectives. One sends heartbeats (see ``Heartbeat``) and answers the others, even while
    the main thread waits in a collective, so a rank that does not answer is dead, frozen or disconnected. The other one
    enforces the deadline: the store may be unreachable, and the main thread may wait forever.

    A rank that is silent for ``timeout_s``, or an error on this rank, starts the roll call; the rank that runs it
    writes one verdict for all. The main thread then has a few seconds to leave normally; a process that still runs
    after ``WAY_OUT_S`` is ended. So a run ends within ``timeout_s`` + 5 s after a rank freezes.

    Args:
        store: store of the process group. It is served from rank 0's host; if that is unreachable, this is the verdict.
        rank, world_size: rank of this process and number of processes.
        timeout_s: longest silence of another rank, and longest duration of a collective.
        on_failure: called once with the verdict, in the thread that reads it first.
        last_words: prints a message if the process is ended immediately.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world_size: int,
        timeout_s: float,
        on_failure: Callable[[Failure], None] | None = None,
        last_words: Callable[[str], None] = to_stderr,
    ) -> None:
        self._store, self._rank, self._world_size, self._timeout_s = store, rank, world_size, timeout_s
        self._on_failure, self._last_words = on_failure or (lambda failure: None), last_words
        self._host = socket.gethostname()
        self.verdict: Failure | None = None
        self._raised_at: str | None = None  # location of this rank's error
        self._trouble_at: float | None = None  # when this rank detected that the run has failed
        self._answered = self._has_read = False
        self._peer_silence_s = 0.0  # silence of the monitored rank
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._store_silence = Clock()
        store.set(f"member/{rank}", f"{self._host} {os.getpid()}")
        self._threads = [
            threading.Thread(target=self._live, args=(store.clone(),), name="fastvae-heart", daemon=True),  # type: ignore[attr-defined]
            threading.Thread(target=self._keep_time, name="fastvae-deadline", daemon=True),
        ]
        for thread in self._threads if world_size > 1 else ():
            thread.start()

    def close(self) -> None:
        """Stop monitoring: this rank leaves, normally or after a reported failure."""
        self._closed.set()
        for thread in self._threads if self._world_size > 1 else ():
            thread.join(1.0 if self._trouble_at is None else _POLL_S)  # the store may not respond

    @property
    def left_s(self) -> float:
        """Return the seconds until this process is ended; infinite without a failure."""
        return float("inf") if self._trouble_at is None else max(0.0, self._trouble_at + WAY_OUT_S - time.monotonic())

    def diagnose(self, error: Exception) -> Failure:
        """Return the first failure, the same on every rank that reaches the store. Signals are deferred meanwhile."""
        with signals_held():
            own = failure_here(self._rank, error)
            self._raised_at = error_place(error)
            self._note_trouble()
            if self._world_size == 1:
                return self._settle(own)
            is_peers, found = is_peer_error(error), self.verdict
            if found is None and self._store_silence.tick() < self._timeout_s / 2:
                work = self._ask if is_peers else self._record
                found = self._in_time(lambda: work(self._store, own))
            found = self._settle(found or (self._cut_off(own) if is_peers else own))
            if self._rank == 0:  # its process may serve the store
                self._in_time(lambda: self._wait_for_readers(self._store))
            return found

    def _in_time(self, call: Callable[[], T]) -> T | None:
        """Return the result; None if there is none in the time that this rank has, or if the store does not respond."""
        return if_in_reach(lambda: within(self.left_s - _LEAVE_S, call))

    # The two threads

    def _live(self, store: dist.Store) -> None:
        """Send heartbeats, answer the roll call, and read the verdict, until this rank leaves."""
        if_in_reach(lambda: self._beat(store))

    def _beat(self, store: dist.Store) -> None:
        heart = Heartbeat(store, self._rank, self._world_size)
        period_s = min(PERIOD_S, self._timeout_s / 8)
        while not self._closed.wait(period_s if self._trouble_at is None else _POLL_S):
            heart.beat()
            self._store_silence.reset()
            self._peer_silence_s = heart.silence_s
            if self.verdict is None and heart.silence_s > self._timeout_s:
                self._note_trouble()
                self._ask(store, self._silence(heart.watched))
            if not self._has_read and store.add("trouble", 0):
                self._note_trouble()
                self._answer(store)
                if store.check(["first"]):
                    self._settle(self._read(store))
        heart.leave()

    def _keep_time(self) -> None:
        while not self._closed.wait(min(PERIOD_S / 2, self._timeout_s / 8)):
            silence_s = self._store_silence.tick()
            if self._trouble_at is None and silence_s > self._timeout_s:
                self._note_trouble()
                failure = self._cut_off(self._silence(0))
                threading.Thread(target=self._settle, args=(failure,), daemon=True).start()
            if self.left_s == 0:
                self._end_at_once()

    def _end_at_once(self) -> None:
        known = self.verdict or self._silence(None)
        self._last_words(f"fastvae: {known.seen_from(self._rank)}\n")
        os._exit(1)

    # Handling of a failure

    def _note_trouble(self) -> None:
        """Start the deadline of this process; a C thread enforces it too, in case a thread never yields the GIL."""
        with self._lock:
            if self._trouble_at is not None or self._world_size == 1:
                return
            self._trouble_at = time.monotonic()
        faulthandler.dump_traceback_later(WAY_OUT_S + 0.5, exit=True, file=2)

    def _settle(self, failure: Failure) -> Failure:
        self._note_trouble()
        with self._lock:
            is_new = self.verdict is None
            self.verdict = self.verdict or failure
        if is_new:
            self._on_failure(self.verdict)
        return self.verdict

    def _answer(self, store: dist.Store) -> None:
        """Report once the location of this rank's main thread, and whether the monitored rank is silent."""
        with self._lock:
            if self._answered:
                return
            self._answered = True
        store.set(f"alive/{self._rank}", self._raised_at or main_place())
        if self._peer_silence_s > self._timeout_s / 2:
            store.add("silent", 1)
        store.add("alive", 1)

    def _read(self, store: dist.Store) -> Failure:
        """Return the verdict that is in the store, and count this rank once among those that have read it."""
        first = _parse(store.get("first"))
        with self._lock:
            is_known, self._has_read = self._has_read, True
        if not is_known:
            store.add("has read", 1)
        return first

    def _record(self, store: dist.Store, failure: Failure, num_alive: int | None = None) -> Failure:
        """Return the first failure that any rank recorded, which may be this one; every other rank reads it."""
        store.compare_set("first", "", json.dumps(asdict(failure)))
        store.add("trouble", 1)
        first = self._read(store)
        self._settle(first)
        if first == failure:
            store.set("readers", str(num_alive or self._world_size))
            # The rank that serves the store may leave before this one: that does not change the verdict.
            if_in_reach(lambda: self._wait_for_readers(store))
        return first

    def _wait_for_readers(self, store: dist.Store) -> None:
        """Let the live ranks read the verdict before this process ends, and perhaps the store with it.

        It ends before the caller's patience does: a thread that is abandoned inside the store crashes Python's exit.
        """
        if _wait_for(lambda: store.check(["readers"]), self.left_s - _LEAVE_S - _MARGIN_S):
            num_readers = int(store.get("readers"))
            _wait_for(lambda: store.add("has read", 0) >= num_readers, self.left_s - _LEAVE_S - _MARGIN_S)

    def _ask(self, store: dist.Store, own: Failure) -> Failure:
        """Determine which rank does not answer, unless another rank or thread already does so."""
        asker = f"{self._rank} {threading.current_thread().name}"
        self._answer(store)
        if store.compare_set("asks", "", asker) != asker.encode():
            store.wait(["first"], timedelta(seconds=max(0.0, self.left_s - _LEAVE_S)))
            return self._read(store)
        store.add("trouble", 1)
        _wait_for(lambda: store.add("alive", 0) + store.add("silent", 0) >= self._world_size, _ROLL_CALL_S)
        return self._record(store, self._missing(store, own), store.add("alive", 0))

    def _missing(self, store: dist.Store, own: Failure) -> Failure:
        silent = [rank for rank in range(self._world_size) if not store.check([f"alive/{rank}"])]
        if not silent:
            return self._stuck(store)
        host, process = store.get(f"member/{silent[0]}").decode("utf-8").rsplit(" ", 1)
        others = f" (and {len(silent) - 1} more, such as rank {silent[1]})" if len(silent) > 1 else ""
        reason = f"process {process} does not answer{others}. {self._advice(own, silent[0], host)}"
        return Failure(rank=silent[0], host=host, reason=reason, reporter=self._rank)

    def _stuck(self, store: dist.Store) -> Failure:
        """All ranks answer, so one runs or waits elsewhere: at the location of the fewest ranks."""
        places = {rank: store.get(f"alive/{rank}").decode("utf-8") for rank in range(self._world_size)}
        crowds = Counter(places.values())
        odd = min(places, key=lambda rank: (crowds[places[rank]], rank == self._rank, rank))
        host, process = store.get(f"member/{odd}").decode("utf-8").rsplit(" ", 1)
        reason = (
            f"all ranks are alive, but after {self._timeout_s:g} s this one is at {places[odd]}, rank {self._rank} "
            f"at {places[self._rank]}. If it needs that long, increase --train.timeout; if not, `py-spy dump --pid "
            f"{process}` on {host} shows what it waits for"
        )
        return Failure(rank=odd, host=host, reason=reason, reporter=self._rank)

    def _silence(self, rank: int | None) -> Failure:
        """Return the failure of a silent rank, before the roll call has a result."""
        who = 0 if rank is None else rank
        reason = f"timed out: a rank was silent for {self._timeout_s:g} s (--train.timeout). Check {_LINK}"
        return Failure(rank=who, host=os.environ.get("MASTER_ADDR", "its host"), reason=reason, reporter=self._rank)

    def _cut_off(self, own: Failure) -> Failure:
        host = os.environ.get("MASTER_ADDR", "the head's host")
        reason = f"its host is not reachable from rank {self._rank} on {self._host}. {self._advice(own, 0, host)}"
        return Failure(rank=0, host=host, reason=reason, reporter=self._rank)

    def _advice(self, own: Failure, rank: int, host: str) -> str:
        if any(text in own.reason for text in _SILENT):
            return (
                f"Nothing was received from it for {self._timeout_s:g} s (--train.timeout): it is frozen, or in one "
                "call "
                f"that holds Python's lock for that long, or disconnected. Check on {host} what it does (py-spy "
                "dump), and "
                f"{_LINK}. If it may be silent for longer, increase --train.timeout"
            )
        return (
            f"It closed its connections: see logs/rank_{rank}.log in the directory of a training run, and dmesg on "
            f"{host} for a process that was killed for its memory"
        )


def _wait_for(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, or the time is over; return whether it holds."""
    deadline = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return found


def _parse(record: bytes) -> Failure:
    return Failure(**json.loads(record))
