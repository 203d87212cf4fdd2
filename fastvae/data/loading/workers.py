"""Worker processes that read the batches of a run ahead of the step, in the order of the steps."""

from __future__ import annotations

import contextlib
import ctypes
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastvae.data.files.reading import PLACE_BYTES, name_in, watch

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")  # the training process handles them
_PR_SET_PDEATHSIG = 1
_REMEDY = "read in the training process to see its error (--data.workers 0; Loading(workers=0)), or remove the example"


class WorkerFailed(ValueError):
    """A worker process died or hung; the message names what it was reading."""


@dataclass(frozen=True)
class _Caught:
    """An exception of a worker."""

    error: Exception
    lines: str


class ReadingWorkers:
    """Reads items by worker processes, in order and ahead of time. The number of workers changes no item.

    The processes are PyTorch's ``DataLoader``'s, forked when the first item is requested: the examples need not be
    picklable. They end with the process that started them, however that ends.

    Args:
        read: reads item ``i``: nested records of tensors. It runs in the workers.
        items: the numbers of the items, in order.
        num_workers: number of processes, at least 1.
        prefetch: items that each worker reads ahead.
        timeout_s: longest time to wait for an item.
    """

    def __init__(
        self, read: Callable[[int], Any], items: range, *, num_workers: int, prefetch: int, timeout_s: float = 600.0
    ) -> None:
        self._pids = torch.zeros(num_workers, dtype=torch.int64).share_memory_()
        self._places = torch.zeros((num_workers, PLACE_BYTES), dtype=torch.uint8).share_memory_()
        self._timeout_s = timeout_s
        with _expected_warnings():
            self._loader: DataLoader[Any] = DataLoader(
                _Items(read),
                batch_size=None,
                sampler=items,
                num_workers=num_workers,
                prefetch_factor=prefetch,
                collate_fn=_unchanged,
                worker_init_fn=_Beginning(self._pids, self._places),
                multiprocessing_context=multiprocessing.get_context("fork"),
                generator=torch.Generator(),  # the worker's seeds must not advance the global generator
            )
        self._items: Iterator[Any] | None = None
        self._waits_since = math.inf  # time.monotonic() at which the present item was requested
        self._has_hung, self._closed = False, threading.Event()
        self._dead: str | None = None

    def __next__(self) -> Any:
        """Return the next item.

        Raises:
            WorkerFailed: a worker died or hung.
            StopIteration: there are no more items.
            Exception: the error of ``read``.
        """
        if self._items is None:
            with _sigchld_kept(), _expected_warnings():
                self._items = iter(self._loader)
            threading.Thread(target=self._watch, name="fastvae-readers", daemon=True).start()
        self._waits_since = time.monotonic()
        try:
            item = next(self._items)
        except StopIteration:
            raise
        except Exception as error:  # the errors of reading are returned: this is one of the processes
            message = self._describe(error)
            self.close()
            raise WorkerFailed(message) from error
        finally:
            self._waits_since = math.inf
        if isinstance(item, _Caught):
            raise item.error from RuntimeError(f"in a worker process:\n{item.lines}")
        return item

    def close(self) -> None:
        """End the processes."""
        self._closed.set()
        items, self._items = self._items, None
        if items is None:
            return
        with _sigchld_kept(signal.SIG_DFL):
            self._kill()
            items._shutdown_workers()  # type: ignore[attr-defined]

    def _kill(self) -> None:
        """Kill the workers: they have nothing to save, and one that hangs would not end otherwise."""
        pids = self._pids.tolist()
        for child in multiprocessing.active_children():  # not those that have ended, whose numbers may be reused
            if child.pid in pids:
                child.kill()

    def _watch(self) -> None:
        """Kill the workers if one has died, or if an item takes too long: the process that waits then goes on.

        A worker that is frozen may hold a message half written, for which PyTorch's loader waits without an end.
        """
        while not self._closed.wait(min(1.0, self._timeout_s / 4)):
            self._dead = self._dead or self._find_dead()
            self._has_hung = time.monotonic() - self._waits_since > self._timeout_s
            if self._dead or self._has_hung:
                self._kill()
                return

    def _find_dead(self) -> str | None:
        """Describe a worker that has ended; None if all run."""
        alive = {child.pid for child in multiprocessing.active_children()}
        for pid, place in zip(self._pids.tolist(), self._places, strict=True):
            if pid and pid not in alive:
                return f"worker process {pid} died while it read {name_in(place) or 'an example'}"
        return None

    def _describe(self, error: Exception) -> str:
        dead = self._dead or (None if self._has_hung else self._find_dead())
        if dead is not None:
            return (
                f"{dead}: its decoder crashed, or it was killed, such as for its memory (dmesg). To find out, {_REMEDY}"
                "; fewer workers need less memory"
            )
        if self._has_hung:
            known = ", ".join(name for name in map(name_in, self._places) if name)
            where = f"; they were at {known}" if known else ""
            return (
                f"the worker processes read nothing for {self._timeout_s:g} s (--train.timeout){where}. Is the file "
                f"system reachable? If so, {_REMEDY}"
            )
        return f"the worker processes failed: {type(error).__name__}: {error}; {_REMEDY}"


class _Items(Dataset[Any]):
    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read

    def __getitem__(self, number: int) -> Any:
        try:
            return self._read(number)
        except (Exception, SystemExit) as error:  # noqa: BLE001  raised again where the item is requested
            return _Caught(_sendable(error), traceback.format_exc())


class _Beginning:
    """Runs in each worker before its first item."""

    def __init__(self, pids: Tensor, places: Tensor) -> None:
        self._pids, self._places = pids, places

    def __call__(self, number: int) -> None:
        for name in _IGNORED:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        # Without it the sockets of a killed process would stay open in its workers, and its peers would wait.
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._pids[number] = os.getpid()
        watch(self._places[number])


def _sendable(error: BaseException) -> Exception:
    """Return the error, or one with its message if it cannot be sent to another process."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  whatever a user's class raises
        copy = None
    return copy if isinstance(copy, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


def _unchanged(item: Any) -> Any:
    return item


@contextlib.contextmanager
def _expected_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the user chose the number
        # Python 3.12 warns of forking with threads; the workers use none of the locks that threads may hold.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


@contextlib.contextmanager
def _sigchld_kept(meanwhile: signal.Handlers | None = None) -> Iterator[None]:
    """Undo the signal handler of PyTorch's loaders: it raises anywhere in the main thread when a worker dies.

    Args:
        meanwhile: the handler within the block; None leaves it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        if meanwhile is not None:
            signal.signal(signal.SIGCHLD, meanwhile)
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler if handler is not None else signal.SIG_DFL)
