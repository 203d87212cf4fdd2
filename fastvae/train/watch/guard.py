"""The guard: a step whose loss or gradient is not finite, or far above its usual level, is skipped.

The decision is made on the device, against limits that the host computes from earlier steps. On a GPU the host reads
the verdict on a step a few steps later, so that it never waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fastvae.train.watch.config import GuardConfig

_LARGEST = torch.finfo(torch.float32).max  # a limit that NaN and infinity exceed, and no other number
_LAG = 4  # steps between a step on a GPU and the host's reading of its verdict
# Lower bounds of the standard deviation, so that nearly constant values do not cause spikes.
_LOSS_FLOOR = 0.01  # as a fraction of the loss's running mean
_LOG_NORM_FLOOR = 0.1  # of the logarithm of the gradient's norm: about 10 % of the norm


@dataclass
class Level:
    """Running mean and variance: unweighted up to the window's length, then exponentially weighted."""

    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float, weight: float) -> None:
        """Add a value with ``weight``; all earlier values together have ``1 - weight`` (West 1979)."""
        delta = value - self.mean
        self.mean += weight * delta
        self.variance = (1 - weight) * (self.variance + weight * delta * delta)

    def above(self, sigmas: float, floor: float) -> float:
        """Return the mean plus ``sigmas`` standard deviations, each at least ``floor``."""
        return self.mean + sigmas * max(math.sqrt(self.variance), floor)


class Judged:
    """The guard's verdict on a step: its loss, the gradient's norm, and whether it was accepted (0 or 1).

    Args:
        step: the step that was judged, counted from 1 as metrics count.
        values: the three numbers on the host.
    """

    def __init__(self, step: int, values: list[float]) -> None:
        self.step = step
        self._values = values

    def values(self) -> list[float]:
        """Loss in nats per example, gradient norm, and 1 or 0."""
        return self._values


class PendingVerdict(Judged):
    """A verdict that the device still works on: an asynchronous device-to-host copy."""

    def __init__(self, step: int, numbers: Tensor) -> None:
        super().__init__(step, [])
        self._copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        self._copy.copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def values(self) -> list[float]:
        self._arrived.synchronize()
        values: list[float] = self._copy.tolist()
        return values


@dataclass
class GuardState:
    """State of the guard; part of a checkpoint, as JSON."""

    loss: Level = field(default_factory=Level)
    log_norm: Level = field(default_factory=Level)
    count: int = 0  # number of steps in the window, up to its length
    spikes_in_a_row: int = 0
    not_finite_in_a_row: int = 0
    unseen: list[Judged] = field(default_factory=list)  # verdicts that the host has not read, oldest first

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, with None for a number that is not finite."""
        unseen = [
            [judged.step, *(value if math.isfinite(value) else None for value in judged.values())]
            for judged in self.unseen
        ]
        return {**asdict(replace(self, unseen=[])), "unseen": unseen}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> GuardState:
        """Restore the result of ``to_json``."""
        levels = {name: Level(**saved[name]) for name in ("loss", "log_norm")}
        unseen = [
            Judged(step, [math.nan if value is None else value for value in values])
            for step, *values in saved["unseen"]
        ]
        return cls(**{**saved, **levels, "unseen": unseen})


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A step that changed no parameter on any rank."""

    step: int  # counted from 1, as metrics count
    finite: bool  # False: loss or gradient was a NaN or an infinity; True: a spike
    loss_nats: float
    grad_norm: float
    not_finite_in_a_row: int  # number of consecutive steps up to this one


class Guard:
    """Accept or skip each step before it changes the parameters.

    Args:
        config: the settings.
        state: state of the guard; updated in place.
        device: device of loss and gradient norm.
        num_examples: number of examples of a global batch.
        all_reduce_sum: sums a tensor over ranks, so that all ranks decide in the same way.
        lag: steps between a step and the host's reading of its verdict; None: 0 on the CPU, a few on a GPU.
    """

    def __init__(
        self,
        config: GuardConfig,
        state: GuardState,
        device: torch.device,
        num_examples: int,
        all_reduce_sum: Callable[[Tensor], Tensor],
        lag: int | None = None,
    ) -> None:
        self._config, self._state, self._num_examples, self._reduce = config, state, num_examples, all_reduce_sum
        self._on_host = device.type == "cpu"
        self._lag = (0 if self._on_host else _LAG) if lag is None else lag
        self._verdicts = {accepted: torch.tensor(accepted) for accepted in (True, False)}
        self._limits = self._work_out_limits()
        self._step = 0

    def begin(self, step: int) -> None:
        """Set the step, counted from 1, of the next verdicts. A player need not take part in every step."""
        self._step = step

    def accept(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Whether the step may change the parameters, [] bool; the same on all ranks.

        Args:
            loss: [] the loss in nats, summed over this rank's examples.
            grad_norm: [] the 2-norm of the global batch's gradient.
        """
        if self._on_host:
            values = ((self._reduce(loss) / self._num_examples).item(), grad_norm.item())
            accepted = all(value <= limit for value, limit in zip(values, self._limits, strict=True))
            self.note(Judged(self._step, [*values, float(accepted)]))
            return self._verdicts[accepted]
        limits = torch.tensor(self._limits).pin_memory().to(loss.device, non_blocking=True)
        numbers = self.judge(loss, grad_norm, limits)
        self.note(PendingVerdict(self._step, numbers))
        return numbers[2] > 0

    def judge(self, loss: Tensor, grad_norm: Tensor, limits: Tensor) -> Tensor:
        """Return a step's loss in nats per example, its gradient norm, and 1 if it is accepted, else 0: ``[3]``.

        It runs on the device only, so that a CUDA graph can capture it.

        Args:
            loss, grad_norm: as for ``accept``.
            limits: ``[2]``, the host's ``limits`` on the device.
        """
        numbers = torch.stack((self._reduce(loss) / self._num_examples, grad_norm.to(loss)))
        return torch.cat((numbers, (numbers <= limits).all().to(numbers).view(1)))

    @property
    def stop_after(self) -> int:
        """Number of consecutive non-finite steps after which the run stops."""
        return self._config.stop_after

    @property
    def limits(self) -> tuple[float, float]:
        """Return the largest loss and gradient norm that are accepted at the next step."""
        return self._limits

    def note(self, judged: Judged) -> None:
        """Store a verdict for ``settle``."""
        self._state.unseen.append(judged)

    def settle(self, step: int, *, wait: bool = False) -> Iterator[Skip]:
        """Read the verdicts on all steps up to ``step`` minus the lag; yield the skipped steps in order.

        With ``wait``, read all of them, as at the end of a run.
        """
        unseen = self._state.unseen
        while unseen and (wait or unseen[0].step <= step - self._lag):
            judged = unseen.pop(0)
            loss, grad_norm, accepted = judged.values()
            finite = math.isfinite(loss) and math.isfinite(grad_norm)
            self._take_in(loss, grad_norm, bool(accepted), finite)
            if not accepted:
                in_a_row = self._state.not_finite_in_a_row
                yield Skip(
                    step=judged.step, finite=finite, loss_nats=loss, grad_norm=grad_norm, not_finite_in_a_row=in_a_row
                )
        self._limits = self._work_out_limits()

    def _take_in(self, loss: float, grad_norm: float, accepted: bool, finite: bool) -> None:
        state, config = self._state, self._config
        if not finite:
            state.not_finite_in_a_row += 1
            return
        if not accepted:
            state.spikes_in_a_row += 1
            if state.spikes_in_a_row >= config.spikes_in_a_row:
                state.count = state.spikes_in_a_row = 0
            return
        state.not_finite_in_a_row = state.spikes_in_a_row = 0
        state.count = min(state.count + 1, config.spike_window)
        state.loss.add(loss, 1 / state.count)
        state.log_norm.add(math.log(max(grad_norm, 1e-30)), 1 / state.count)

    def _work_out_limits(self) -> tuple[float, float]:
        """Return the largest loss and gradient norm that are accepted, rounded to float32."""
        state, sigmas = self._state, self._config.spike_sigma
        if sigmas is None or state.count < self._config.spike_window:
            return _LARGEST, _LARGEST
        loss = state.loss.above(sigmas, _LOSS_FLOOR * abs(state.loss.mean))
        log_norm = state.log_norm.above(sigmas, _LOG_NORM_FLOOR)
        return min(loss, _LARGEST), math.exp(min(log_norm, math.log(_LARGEST)))
