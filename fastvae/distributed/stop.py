"""Stop signals: a request on one rank stops all ranks at the same step."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from fastvae.distributed.world import World

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """The highest-numbered signal seen by any rank, agreed on once a step.

    The flag crosses ranks in a small asynchronous all-reduce on the CPU that is started before the step's work and
    read after it, so that it costs no waiting. A second request, more than a second after the first, ends the process
    at once: within that second it is the same Ctrl-C, come once from the terminal and once from the launcher.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._local = 0
        self._noted_at = 0.0
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._pending: Any = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._local and time.monotonic() - self._noted_at > 1.0:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._local = max(self._local, number)
        self._noted_at = time.monotonic()

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the stop signals while the block runs; in a thread other than the main one, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def begin(self) -> None:
        """Start to ask all ranks whether to stop after this step."""
        self._flag.fill_(self._local)
        if self._world.world_size > 1:
            self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, async_op=True)

    def end(self) -> int | None:
        """The signal's number that ends the run after this step, the same on all ranks, or None."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        return int(self._flag.item()) or None
