"""The result of a call of ``train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fastvae.distributed.stop import exit_code
from fastvae.evaluate import Evaluation


@dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """Result of a call of ``train``."""

    directory: Path
    """Everything about the run; ``fastvae.load(directory)`` loads it."""
    status: str
    """done or preempted."""
    step: int
    """Number of completed optimizer steps."""
    signal: int | None
    """Signal that stopped it; None if it is done."""
    model: nn.Module
    """The model with the evaluated weights: the best or the averaged ones if the run has them."""
    evaluation: Evaluation | None
    """Evaluation of the test set; None if the run was stopped."""
    is_main: bool
    """Whether this process should print."""

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal number, as in shells: 143 TERM, 130 INT, 138 USR1."""
        return 0 if self.signal is None else exit_code(self.signal)

    def __repr__(self) -> str:
        numbers = {} if self.evaluation is None else self.evaluation.known()
        shown = ("nll_nats", "bits_per_dim", "elbo_nats", "squared_error")
        results = "".join(f", {name}={numbers[name]:.5g}" for name in shown if name in numbers)
        return f"Run({str(self.directory)!r}, {self.status} at step {self.step:,}{results})"
