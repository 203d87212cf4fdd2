"""Prefetching of batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType

from fastvae.data.loading.loader import Loader
from fastvae.data.loading.micro_batches import MicroBatch, RawMicroBatch
from fastvae.data.loading.staging import Copies, PinnedCopies, each_tensor, tensors_in
from fastvae.data.loading.workers import ReadingWorkers

Ready = Callable[[], list[MicroBatch]]


class LoadError(ValueError):
    """The examples of a step could not be read; the message names the step and the reason."""


class Prefetcher(Iterator[list[MicroBatch]]):
    """Yields the micro-batches of consecutive steps, while those of the next steps are read and copied to the GPU.

    Examples that are decoded one by one are read by the worker processes of the loader's `Loading`; arrays are read
    here. On a GPU, each call takes the examples of a later step, copies them into pinned memory and starts one
    asynchronous copy on a separate stream; the data of the current step have arrived by then. Preprocessing runs on the
    device when the step is returned. There is no thread: work on a GPU is queued much faster than it runs, so the host
    has time, and a second Python thread would only delay the one that queues.

    Args:
        loader: loader of the batches, on its device.
        start, stop: the steps ``start .. stop - 1``.
        depth: number of steps to copy ahead.
        copies: copies of examples to the device; None: pinned copies to a GPU, none on a CPU.
        timeout_s: longest time to wait for a worker, in seconds.

    Raises:
        LoadError: at the step whose examples could not be read: a ValueError, TypeError or OSError, or a worker that
            died.
        RuntimeError: another error occurred, which is its cause.
    """

    def __init__(
        self,
        loader: Loader,
        start: int,
        stop: int,
        *,
        depth: int = 2,
        copies: Copies | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self._loader, self._steps = loader, iter(range(start, stop))
        if copies is None and loader.device.type == "cuda":
            copies = PinnedCopies(loader.device)
        self._copies, self._depth = copies, depth if copies is not None else 0
        self._ahead: deque[tuple[int, Ready]] = deque()
        number = loader.loading.num_workers(loader.source)
        self._workers = None
        if number and start < stop:
            self._workers = ReadingWorkers(
                loader.read,
                range(start, stop),
                num_workers=number,
                prefetch=loader.loading.prefetch,
                timeout_s=timeout_s,
            )
        self.waited_s = 0.0
        """Seconds in which the training process read examples, or waited for its workers to read them."""
        self.replaced: list[str] = []
        """Why an example could not be read, for each that was replaced."""

    def __next__(self) -> list[MicroBatch]:
        while len(self._ahead) <= self._depth and (step := next(self._steps, None)) is not None:
            self._ahead.append((step, self._start(step)))
        if not self._ahead:
            raise StopIteration
        step, ready = self._ahead.popleft()
        try:
            return ready()
        except Exception as error:
            self.close()
            kind = LoadError if isinstance(error, ValueError | TypeError | OSError) else RuntimeError
            raise kind(f"the batch of step {step + 1} could not be loaded: {type(error).__name__}: {error}") from error

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the prefetched batches after the last step, and end the workers."""
        self._steps = iter(range(0))
        self._ahead.clear()
        if self._workers is not None:
            self._workers.close()

    def _read(self, step: int) -> list[RawMicroBatch]:
        """Return the raw examples of a step; with workers, of the next step."""
        started = time.perf_counter()
        try:
            raws: list[RawMicroBatch] = self._loader.read(step) if self._workers is None else next(self._workers)
            self.replaced += [reason for raw in raws for reason in raw.replaced]
            return raws
        finally:
            self.waited_s += time.perf_counter() - started

    def _load(self, step: int) -> list[MicroBatch]:
        """Return the batches of a step without copies ahead."""
        return [self._loader.prepare(raw.to(self._loader.device)) for raw in self._read(step)]

    def _start(self, step: int) -> Ready:
        """Start loading a step; an error is raised when that step is requested."""
        if self._copies is None:
            return partial(self._load, step)
        try:
            raws = self._read(step)
            receive = self._copies.send(tensors_in(raws))
        except Exception as error:  # noqa: BLE001  raised again by the step's own call
            return partial(_raise, error)

        def ready() -> list[MicroBatch]:
            arrived = iter(receive())
            return [self._loader.prepare(raw) for raw in each_tensor(raws, lambda _: next(arrived))]

        return ready


def _raise(error: Exception) -> list[MicroBatch]:
    raise error
