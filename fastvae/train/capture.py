"""The whole training step as one CUDA graph: one launch in place of a hundred, for models dominated by launch overhead.

Everything that changes from step to step lies at a fixed place on the device: the examples' indices, the noise keys,
the learning rate, the KL weight, the moving average's weight, the guard's limits. The examples themselves lie there
too, and the graph also adds to the log's sums, the count of skipped steps and the moving average. A step asks three
things of the driver: one copy of those numbers, one launch, one mark by which the host later learns how far the device
is. The host waits for nothing but the verdict on a step some steps ago.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from fastvae.data import Loader
from fastvae.data.loading.staging import Layout
from fastvae.distributed import StepReport, Strategy
from fastvae.objective import kl_weight_at
from fastvae.train.config import TrainConfig
from fastvae.train.optim import lr_at, set_lr
from fastvae.train.step import train_step
from fastvae.train.totals import Totals
from fastvae.train.watch.guard import Guard, Judged

T = TypeVar("T")

_WARM_UP = 3  # steps that run as usual first: libraries and the optimizer set themselves up in them
_SLOTS = 8  # steps whose numbers the host keeps apart; more than the guard's lag, so that none has to be waited for


class Mark(Protocol):
    """A place in the device's work, as `torch.cuda.Event`."""

    def record(self) -> None:
        """Mark what has been asked of the device so far."""

    def synchronize(self) -> None:
        """Wait until the device has come there."""


class Recorder(Protocol):
    """What a captured step needs of a device: work that is recorded once and replayed, copies, marks."""

    def warm_up(self, run: Callable[[], T]) -> T:
        """Run it as usual, where recording may follow."""

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        """Record it without running it; the result replays it, and gives the same tensors with new values."""

    def host_memory(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Memory of the host, zeros, that the device copies from and to without the host's waiting."""

    def send(self, numbers: Tensor, to: Tensor) -> None:
        """Start to copy from such memory to the device."""

    def mark(self) -> Mark:
        """A new mark."""


class CUDAGraphs:
    """Recording with CUDA graphs, after PyTorch's notes: warm up on a side stream, then capture."""

    def warm_up(self, run: Callable[[], T]) -> T:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = run()
        torch.cuda.current_stream().wait_stream(side)
        return result

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()

        def replay() -> T:
            graph.replay()
            return result

        return replay

    def host_memory(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def send(self, numbers: Tensor, to: Tensor) -> None:
        to.copy_(numbers, non_blocking=True)

    def mark(self) -> Mark:
        return torch.cuda.Event()


class _SlotVerdict(Judged):
    """A step's verdict in its slot on the host, once the device has come to the mark."""

    def __init__(self, place: Tensor, mark: Mark) -> None:
        self._place, self._mark = place, mark
        self._known: list[float] | None = None

    def values(self) -> list[float]:
        if self._known is None:
            self._mark.synchronize()
            self._known = self._place.tolist()
        return self._known


class _Slot:
    """One of the places on the host for a step's numbers: those that go to the device, and the verdict from there."""

    def __init__(self, numbers: Tensor, layout: Layout, verdict: Tensor, mark: Mark) -> None:
        self.numbers, self._verdict, self._mark = numbers, verdict, mark
        self._views = [view.numpy() for view in layout.views(numbers)]
        self._last: _SlotVerdict | None = None

    def fill(self, *values: Any) -> None:
        """Write what a step needs; the device has read what is there once the last step's verdict has arrived."""
        if self._last is not None:
            self._last.values()
        for view, value in zip(self._views, values, strict=True):
            view[...] = value

    def mark(self) -> Judged:
        """Mark that the step has been asked for; gives its verdict."""
        self._mark.record()
        self._last = _SlotVerdict(self._verdict, self._mark)
        return self._last


class CapturedStep:
    """`train_step` recorded: call it with the steps in order, from ``first_step`` on.

    Args:
        strategy: single; its optimizer's learning rates become tensors on the device.
        loader: its examples are moved to its device.
        config: the settings of the run.
        guard: judges each step.
        first_step: the step that the first call takes.
        totals: what each step adds to.
        recorder: CUDA graphs, or what a test puts in their place.
    """

    def __init__(
        self,
        strategy: Strategy,
        loader: Loader,
        config: TrainConfig,
        guard: Guard,
        first_step: int,
        totals: Totals,
        recorder: Recorder,
    ) -> None:
        device = strategy.world.device
        self._strategy, self._loader, self._config, self._guard = strategy, loader.resident(), config, guard
        self._totals, self._recorder, self._first_step = totals, recorder, first_step
        self._replay: Callable[[], object] | None = None
        keys = torch.empty(len(loader.first_rows), 3, dtype=torch.int64)
        layout = Layout.of([loader.indices(first_step), keys, torch.empty(1, dtype=torch.int64), torch.empty(5)])
        self._numbers = torch.zeros(layout.num_bytes, dtype=torch.uint8, device=device)
        self._indices, self._keys, self._slot, floats = layout.views(self._numbers)
        lr, self._kl_weight, self._ema_weight = floats[:3].unbind()
        self._limits = floats[3:]
        set_lr(strategy.optimizer, lr)
        self._verdicts = torch.zeros(_SLOTS, 3, device=device)
        self._slot_numbers = torch.arange(_SLOTS, device=device).unsqueeze(1)
        self._read_verdicts = recorder.host_memory(_SLOTS, 3, dtype=torch.float32)
        self._slots = [
            _Slot(recorder.host_memory(layout.num_bytes, dtype=torch.uint8), layout, verdict, recorder.mark())
            for verdict in self._read_verdicts
        ]

    def __call__(self, step: int) -> None:
        """Take one step."""
        slot = self._slots[step % _SLOTS]
        self._fill(slot, step)
        self._recorder.send(slot.numbers, self._numbers)
        if step < self._first_step + _WARM_UP:
            self._recorder.warm_up(self._run)
        else:
            if self._replay is None:
                self._replay = self._recorder.record(self._run)
            self._replay()
        self._guard.note(slot.mark())

    def close(self) -> None:
        """Nothing is loaded ahead."""

    def accept(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """The guard's verdict, worked out from what lies on the device."""
        numbers = self._guard.judge(loss, grad_norm, self._limits)
        self._verdicts.copy_(numbers.where(self._slot_numbers == self._slot, self._verdicts))
        return numbers[2] > 0

    def _fill(self, slot: _Slot, step: int) -> None:
        config, loader = self._config, self._loader
        slot.fill(
            loader.indices(step).numpy(),
            [(loader.seed, step, row) for row in loader.first_rows],
            step % _SLOTS,
            (
                lr_at(config, step),
                kl_weight_at(config.objective, step),
                self._totals.ema_weight_at(step),
                *self._guard.limits,
            ),
        )

    def _run(self) -> tuple[StepReport, Tensor]:
        batches = self._loader.make(self._indices, list(self._keys))
        report, sums = train_step(self._strategy, batches, self._config, self._kl_weight, self)
        self._totals.add(report, sums, self._ema_weight)
        # All slots, since a graph copies between fixed places; those of earlier steps are the same again.
        self._read_verdicts.copy_(self._verdicts, non_blocking=True)
        return report, sums
