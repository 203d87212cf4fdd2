"""What every step adds to on the device, beside the model and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fastvae.distributed import StepReport, Strategy
from fastvae.train.run_dir.metrics import Window
from fastvae.train.state import EMA, TrainState


@dataclass(frozen=True)
class Totals:
    """The sums of the log's window, the count of skipped steps, the moving average of the weights."""

    strategy: Strategy
    state: TrainState
    window: Window
    ema: EMA | None

    def add(self, report: StepReport, sums: Tensor, ema_weight: float | Tensor) -> None:
        """Take in a step; all of it happens on the device, so that a CUDA graph may hold it.

        Args:
            report: what the step did.
            sums: float32 ``[4]``, its sums of loss, ELBO, rate and distortion; ``[5]`` with a penalty.
            ema_weight: of this step in the moving average, see `EMA.weight_at`.
        """
        if self.ema is not None:
            self.ema.update(self.strategy.full_precision_parameters(), ema_weight)
        self.state.skipped_steps += report.skipped
        self.window.add(report, sums)

    def ema_weight_at(self, step: int) -> float:
        """The weight of a step in the moving average; 0 where there is none."""
        return 0.0 if self.ema is None else self.ema.weight_at(step)
