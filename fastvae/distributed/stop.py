"""Stop signals: a request on one rank stops all ranks at the same step, before a deadline."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from fastvae.distributed.world import World

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_SAME_REQUEST_S = 1.0  # the same Ctrl-C comes once from the terminal and once from the launcher


class StopRequest:
    """The highest-numbered signal seen by any rank, agreed on once per step.

    The flag is exchanged in a small asynchronous all-reduce on the CPU that is started before the step's work and read
    after it, so that no step waits. It also carries whether any rank has an error that should end the run, such as a
    failed background save.

    Signals are handled by a separate thread, even while the main thread waits inside a library call. That thread ends
    the process immediately on a second request, and if the run has not ended ``grace_seconds`` after the first; the
    checkpoints on disk are kept.

    Args:
        world: the ranks.
        grace_seconds: seconds from the first request to the end of the process.
        kept: the end of the message of a process that ends immediately.
    """

    def __init__(
        self, world: World, *, grace_seconds: float = 60.0, kept: str = "the newest checkpoint is kept"
    ) -> None:
        self._world, self._kept = world, kept
        self._grace_seconds = grace_seconds
        self._local = 0
        self._flags = torch.zeros(2, dtype=torch.int32)
        self._pending: Any = None
        self._at_once: Callable[[int], None] | None = None

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the stop signals while the block runs; in a thread other than the main one, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        earlier_pipe = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        previous = {number: signal.signal(number, _leave_to_the_watcher) for number in STOP_SIGNALS}
        watcher = threading.Thread(target=self._watch, args=(reader,), name="fastvae-stop", daemon=True)
        watcher.start()
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(earlier_pipe)
            os.close(writer)  # ends the watcher, which closes its own end
            watcher.join()

    @contextmanager
    def at_once(self, last_words: Callable[[int], None]) -> Iterator[None]:
        """Inside the block, where everything is saved, a signal ends the process after ``last_words(number)``."""
        self._at_once = last_words
        if self._local:
            self._leave(self._local)
        try:
            yield
        finally:
            self._at_once = None

    def begin(self, *, trouble: bool = False) -> None:
        """Start the exchange over ranks: whether to stop after this step, and whether any rank has an error."""
        self._flags[0], self._flags[1] = self._local, trouble
        if self._world.world_size > 1:
            self._pending = dist.all_reduce(self._flags, op=dist.ReduceOp.MAX, async_op=True)

    def end(self) -> tuple[int | None, bool]:
        """Return the signal number that ends the run after this step, or None; and whether a rank has an error.

        The same on all ranks.
        """
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        number, trouble = self._flags.tolist()
        return number or None, bool(trouble)

    def _watch(self, reader: int) -> None:
        """Read signal numbers from the pipe until it is closed; keep the deadline."""
        first_at = None
        while True:
            wait = None if first_at is None else max(0.0, first_at + self._grace_seconds - time.monotonic())
            if not select.select([reader], [], [], wait)[0]:
                self._force(f"the run has not stopped {self._grace_seconds:g} s after a stop signal", where=True)
            numbers = os.read(reader, 64)
            if not numbers:
                break
            for number in (n for n in numbers if n in STOP_SIGNALS):
                now = time.monotonic()
                if first_at is not None and now - first_at > _SAME_REQUEST_S:
                    self._force("a second stop signal")
                first_at = first_at if first_at is not None else now
                self._local = max(self._local, number)
                if self._at_once is not None:
                    self._leave(number)
        os.close(reader)

    def _leave(self, number: int) -> None:
        if self._at_once is not None:
            self._at_once(number)
        _exit(number)

    def _force(self, why: str, *, where: bool = False) -> None:
        name = signal.Signals(self._local).name
        text = f"fastvae: {name}: {why}; rank {self._world.rank} ends now; {self._kept}\n"
        os.write(2, text.encode())
        if where:
            faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        _exit(self._local)


def exit_code(number: int) -> int:
    """Return 128 + the signal number, as shells do: 143 TERM, 130 INT, 138 USR1."""
    return 128 + (10 if number == signal.SIGUSR1 else number)


def _exit(number: int) -> None:
    os._exit(exit_code(number))


def _leave_to_the_watcher(number: int, frame: FrameType | None) -> None:
    """Python writes the number to the watcher's pipe before it calls this."""
