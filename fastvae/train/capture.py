"""The whole training step as one CUDA graph: one launch in place of a hundred, for models dominated by launch overhead.

Everything that changes from step to step is stored at a fixed address on the device: the examples' indices, the noise
keys, the values of the task's schedules, and each player's learning rate, EMA weight and limits of the guard. The
examples themselves are on the device too, and the graph also updates the sums of the log, the counts of skipped steps
and the moving averages. A step makes three calls to the driver: it copies those values, launches the graph, and records
an event that shows the host later how far the device is. The host waits only for the verdicts on earlier steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from fastvae.data import Loader
from fastvae.data.loading.staging import Layout
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.optim import set_lr
from fastvae.train.player import Player
from fastvae.train.task import StepResult, Task
from fastvae.train.totals import Totals
from fastvae.train.watch.guard import Guard, Judged

T = TypeVar("T")

_WARM_UP = 3  # steps that run eagerly first: libraries and the optimizer initialise themselves in them
_FLOATS = 4  # per player: learning rate, EMA weight, the guard's two limits
_SLOTS = 8  # ring buffer of steps on the host; longer than the guard's lag, so that no slot has to be waited for


class Mark(Protocol):
    """An event in the device's queue, such as `torch.cuda.Event`."""

    def record(self) -> None:
        """Record the event after the work that is queued so far."""

    def synchronize(self) -> None:
        """Wait until the device has reached the event."""


class Recorder(Protocol):
    """Operations of a device that a captured step requires: recording and replaying work, copies, events."""

    def warm_up(self, run: Callable[[], T]) -> T:
        """Run it eagerly, in a state in which recording may follow."""

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        """Record it without running it; return a function that replays it and returns the same, updated tensors."""

    def host_memory(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Allocate zeroed host memory for asynchronous copies (pinned memory)."""

    def send(self, numbers: Tensor, to: Tensor) -> None:
        """Start an asynchronous copy from such memory to the device."""

    def mark(self) -> Mark:
        """Return a new event."""


class CUDAGraphs:
    """Recording with CUDA graphs as PyTorch's documentation describes: warm up on a side stream, then capture."""

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
    """A step's verdict in its slot on the host, available once the device has reached the event."""

    def __init__(self, step: int, place: Tensor, mark: Mark) -> None:
        super().__init__(step, [])
        self._place, self._mark = place, mark
        self._known: list[float] | None = None

    def values(self) -> list[float]:
        if self._known is None:
            self._mark.synchronize()
            self._known = self._place.tolist()
        return self._known


class _Slot:
    """One element of the ring buffer on the host: the values that are sent to the device, and its verdicts."""

    def __init__(self, numbers: Tensor, layout: Layout, verdicts: Tensor, mark: Mark) -> None:
        self.numbers, self._verdicts, self._mark = numbers, list(verdicts), mark
        self._views = [view.numpy() for view in layout.views(numbers)]
        self._last: list[_SlotVerdict] = []

    def fill(self, *values: Any) -> None:
        """Write the values of a step; the old ones were read by the device once their step's verdicts have arrived."""
        for verdict in self._last:
            verdict.values()
        for view, value in zip(self._views, values, strict=True):
            view[...] = value

    def mark(self, step: int) -> list[_SlotVerdict]:
        """Record an event after the queued step; return each player's verdict."""
        self._mark.record()
        self._last = [_SlotVerdict(step, verdict, self._mark) for verdict in self._verdicts]
        return self._last


class _CapturedJudge:
    """A guard's verdict, computed on the device.

    Args:
        guard: judges the player's steps.
        limits: ``[2]``, the guard's limits.
        verdicts: ``[_SLOTS, 3]``, output of the verdicts, one row per slot.
        in_slot: ``[_SLOTS, 1]`` bool, True for the row of the current slot; computed in every replay.
    """

    def __init__(self, guard: Guard, limits: Tensor, verdicts: Tensor, in_slot: Callable[[], Tensor]) -> None:
        self._guard, self._limits, self._verdicts, self._in_slot = guard, limits, verdicts, in_slot

    def accept(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """See `fastvae.train.watch.guard.Guard.accept`."""
        numbers = self._guard.judge(loss, grad_norm, self._limits)
        self._verdicts.copy_(numbers.where(self._in_slot(), self._verdicts))
        return numbers[2] > 0


class CapturedStep:
    """A recorded step of a task: call it with the steps in order, starting at ``first_step``.

    Args:
        task: defines the step; it must run the same operations at every step.
        players: players with strategy single; the learning rates of their optimizers become tensors on the device.
        loader: data loader; its examples are moved to its device.
        config: the settings of the run.
        first_step: the step of the first call.
        totals: sums that each step updates.
        recorder: CUDA graphs, or a test's replacement.
    """

    def __init__(
        self,
        task: Task,
        players: Mapping[str, Player],
        loader: Loader,
        config: TrainConfig,
        first_step: int,
        totals: Totals,
        recorder: Recorder,
    ) -> None:
        device = players[GENERATOR].strategy.world.device
        self._task, self._loader, self._config = task, loader.resident(), config
        self._totals, self._recorder, self._first_step = totals, recorder, first_step
        self._replay: Callable[[], object] | None = None
        keys = torch.empty(len(loader.first_rows), 3, dtype=torch.int64)
        names = list(task.numbers(config, first_step))
        floats = torch.empty(len(names) + _FLOATS * len(players))
        layout = Layout.of([loader.indices(first_step), keys, torch.empty(1, dtype=torch.int64), floats])
        self._sent = torch.zeros(layout.num_bytes, dtype=torch.uint8, device=device)
        self._indices, self._keys, self._slot, floats = layout.views(self._sent)
        self._scheduled = dict(zip(names, floats, strict=False))
        self._verdicts = torch.zeros(len(players), _SLOTS, 3, device=device)
        self._slot_numbers = torch.arange(_SLOTS, device=device).unsqueeze(1)
        self._place(players, floats[len(names) :].view(-1, _FLOATS))
        self._read_verdicts = recorder.host_memory(len(players), _SLOTS, 3, dtype=torch.float32)
        self._slots = [
            _Slot(recorder.host_memory(layout.num_bytes, dtype=torch.uint8), layout, verdicts, recorder.mark())
            for verdicts in self._read_verdicts.unbind(1)
        ]

    @property
    def waited_s(self) -> float:
        """0: the examples are on the device."""
        return 0.0

    @property
    def replaced(self) -> Sequence[str]:
        """None: the examples are on the device."""
        return ()

    def _place(self, players: Mapping[str, Player], floats: Tensor) -> None:
        """Move each player's values to the device: ``[players, _FLOATS]``."""
        self._players: dict[str, Player] = {}
        self._updated = set(players)  # set by the task's step
        self._ema_weights: dict[str, float | Tensor] = {}
        for (name, player), own, verdicts in zip(players.items(), floats, self._verdicts, strict=True):
            lr, self._ema_weights[name] = own[:2].unbind()
            set_lr(player.strategy.optimizer, lr)
            judge = _CapturedJudge(player.guard, own[2:], verdicts, self._in_slot)
            self._players[name] = replace(player, judge=judge)

    def _in_slot(self) -> Tensor:
        return self._slot_numbers == self._slot

    def __call__(self, step: int) -> None:
        """Run one step."""
        slot = self._slots[step % _SLOTS]
        self._fill(slot, step)
        self._recorder.send(slot.numbers, self._sent)
        if step < self._first_step + _WARM_UP:
            self._recorder.warm_up(self._run)
        else:
            if self._replay is None:
                self._replay = self._recorder.record(self._run)
            self._replay()
        for player, verdict in zip(self._players.values(), slot.mark(step + 1), strict=True):
            if player.name in self._updated:
                player.guard.note(verdict)

    def close(self) -> None:
        """Do nothing: no batches are prefetched."""

    def _fill(self, slot: _Slot, step: int) -> None:
        config, loader = self._config, self._loader
        floats = list(self._task.numbers(config, step).values())
        ema_weights = self._totals.ema_weights_at(step)
        for name, player in self._players.items():
            lr = player.lr_at(step) * self._totals.state.lr_factor
            floats += [lr, ema_weights[name], *player.guard.limits]
        keys = [(loader.seed, step, row) for row in loader.first_rows]
        slot.fill(loader.indices(step).numpy(), keys, step % _SLOTS, floats)

    def _run(self) -> StepResult:
        batches = self._loader.make(self._indices, list(self._keys))
        result = self._task.step(self._players, batches, self._scheduled)
        self._updated = set(result.reports)
        self._totals.add(result, self._ema_weights)
        # All slots, since a graph copies between fixed places; the values of earlier steps do not change.
        self._read_verdicts.copy_(self._verdicts, non_blocking=True)
        return result
