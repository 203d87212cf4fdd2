"""Prefetching of batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType

from fastvae.data.loading.loader import Loader, MicroBatch
from fastvae.data.loading.staging import Copies, PinnedCopies, each_tensor, tensors_in

Ready = Callable[[], list[MicroBatch]]


class LoadError(ValueError):
    """The examples of a step could not be read; the message names the step and the reason."""


class Prefetcher(Iterator[list[MicroBatch]]):
    """Yields the micro-batches of consecutive steps, while those of the next steps are copied to the GPU.

    On a GPU, each call reads the examples of a later step, copies them into pinned memory and starts one asynchronous
    copy on a separate stream; the data of the current step have arrived by then. Preprocessing runs on the GPU when the
    step is returned. There is no thread: work on a GPU is queued much faster than it runs, so the host has time, and a
    second Python thread would only delay the one that queues. On a CPU nothing could overlap, and each call loads its
    own batch.

    Args:
        loader: loader of the batches, on its device.
        start, stop: the steps ``start .. stop - 1``.
        depth: number of steps to prefetch.
        copies: copies of examples to the device; None: pinned copies to a GPU, none on a CPU.

    Raises:
        LoadError: at the step whose examples could not be read: a ValueError, TypeError or OSError.
        RuntimeError: another error occurred, which is its cause.
    """

    def __init__(self, loader: Loader, start: int, stop: int, *, depth: int = 2, copies: Copies | None = None) -> None:
        self._loader, self._steps = loader, iter(range(start, stop))
        if copies is None and loader.device.type == "cuda":
            copies = PinnedCopies(loader.device)
        self._copies, self._depth = copies, depth if copies is not None else 0
        self._ahead: deque[tuple[int, Ready]] = deque()

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
        """Drop the prefetched batches after the last step."""
        self._steps = iter(range(0))
        self._ahead.clear()

    def _start(self, step: int) -> Ready:
        """Start loading a step; an error is raised when that step is requested."""
        if self._copies is None:
            return partial(self._loader.load, step)
        try:
            raws = self._loader.read(step)
            receive = self._copies.send(tensors_in(raws))
        except Exception as error:  # noqa: BLE001  raised again by the step's own call
            return partial(_raise, error)

        def ready() -> list[MicroBatch]:
            arrived = iter(receive())
            return [self._loader.prepare(raw) for raw in each_tensor(raws, lambda _: next(arrived))]

        return ready


def _raise(error: Exception) -> list[MicroBatch]:
    raise error
