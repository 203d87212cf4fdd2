"""The log of every rank and the record of a failure, so that the terminal shows one bar and one error."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

from fastvae.distributed import Failure, World, world_from_environment
from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.status import write_status
from fastvae.train.state import TrainState


class RankLog:
    """``logs/rank_N.log`` in the run directory; nothing is written without a file, as in a run of one process."""

    def __init__(self, file: TextIO | None = None, terminal: int = 2) -> None:
        self._file, self._terminal = file, terminal

    def show(self, text: str) -> None:
        """Write to the standard error that this process was started with, bypassing Python's buffers."""
        os.write(self._terminal, text.encode())

    def line(self, text: str) -> None:
        """Add a line with the time."""
        if self._file is not None:
            self._file.write(f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {text}\n")

    def stack(self) -> None:
        """Add the traceback of the error being handled, or the stack of each thread."""
        if self._file is None:
            return
        if sys.exc_info()[0] is not None:
            self._file.write(traceback.format_exc())
        else:
            faulthandler.dump_traceback(self._file)


@contextmanager
def rank_log(run_dir: Path) -> Iterator[RankLog]:
    """Open the log of this process for the duration of the block; a resumed run appends.

    The output of all ranks but the first goes there instead of to the terminal, including that of C++ libraries.
    """
    world = world_from_environment("cpu")
    if world.world_size == 1:
        yield RankLog()
        return
    path = RunDir(run_dir).rank_log(world.rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a", encoding="utf-8", buffering=1) as file,
        nullcontext(2) if world.is_main else _output_to(file) as terminal,
    ):
        log = RankLog(file, terminal)
        log.line(f"rank {world.rank} of {world.world_size} on {socket.gethostname()}, process {os.getpid()}")
        yield log


@contextmanager
def _output_to(file: TextIO) -> Iterator[int]:
    """Redirect standard output and error to ``file``; yield a descriptor of the previous standard error."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(file.fileno(), number)
        yield kept[2]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


class FailureRecorder:
    """Writes a run's first failure into this rank's log and, on one rank, into ``status.json``."""

    def __init__(self, run_dir: Path, log: RankLog) -> None:
        self._run_dir, self._log = run_dir, log
        self._rank = world_from_environment("cpu").rank
        self.state: TrainState | None = None  # set once the run directory is initialised

    def __call__(self, failure: Failure) -> None:
        self._log.line(f"{failure.where} failed first: {failure.reason}; detected here by the {_thread()}")
        self._log.stack()
        writer = failure.reporter if failure.rank == 0 else 0
        if self._rank == writer and self.state is not None:
            place = {"reason": failure.reason, "rank": failure.rank, "host": failure.host}
            try:
                write_status(self._run_dir, World(), "failed", self.state.step, **place)
            except OSError as also:  # the failure itself is raised anyway
                print(f"{RunDir(self._run_dir).status} could not be written ({also})", file=sys.stderr)


def _thread() -> str:
    return "main thread" if threading.current_thread() is threading.main_thread() else "listening thread"
