"""Worker processes that read the batches of a run ahead of the step, in the order of the steps."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
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
_REMEDY = "read in the training process to see its error (--data.workers 0), or remove the example"


class WorkerFailed(RuntimeError):
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
                timeout=timeout_s,
                multiprocessing_context=multiprocessing.get_context("fork"),
                generator=torch.Generator(),  # the worker's seeds must not advance the global generator
            )
        self._items: Iterator[Any] | None = None

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
        try:
            item = next(self._items)
        except RuntimeError as error:
            message = self._describe(error)
            self.close()
            raise WorkerFailed(message) from error
        if isinstance(item, _Caught):
            raise item.error from RuntimeError(f"in a worker process:\n{item.lines}")
        return item

    def close(self) -> None:
        """End the processes."""
        items, self._items = self._items, None
        if items is None:
            return
        with _sigchld_kept(signal.SIG_DFL):
            pids = self._pids.tolist()
            for child in multiprocessing.active_children():  # not those that have ended, whose numbers may be reused
                if child.pid in pids:
                    child.kill()  # it has nothing to save, and would not end if it hangs
            items._shutdown_workers()  # type: ignore[attr-defined]

    def _describe(self, error: RuntimeError) -> str:
        alive = {child.pid for child in multiprocessing.active_children()}
        workers = list(zip(self._pids.tolist(), map(name_in, self._places), strict=True))
        dead = [(pid, name) for pid, name in workers if pid and pid not in alive]
        if dead:
            pid, name = dead[0]
            return (
                f"worker process {pid} died while it read {name or 'its first example'}: its decoder crashed, or it was"
                f" killed, such as for its memory (dmesg). To find out, {_REMEDY}; fewer workers need less memory"
            )
        if "timed out" in str(error):
            names = ", ".join(name for _, name in workers if name) or "their first examples"
            return (
                f"the worker processes read nothing for {self._timeout_s:g} s (--train.timeout); they were at {names}. "
                f"Is the file system reachable? If so, {_REMEDY}"
            )
        return f"the worker processes failed: {error}"


class _Items(Dataset[Any]):
    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read

    def __getitem__(self, number: int) -> Any:
        try:
            return self._read(number)
        except Exception as error:  # noqa: BLE001  raised again where the item is requested
            return _Caught(error, traceback.format_exc())


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
