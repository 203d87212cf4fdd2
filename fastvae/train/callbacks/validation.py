"""Callbacks that follow a validation set: early stopping, best weights, learning-rate plateau."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastvae.durations import steps_of
from fastvae.evaluate import Evaluation
from fastvae.objective import ObjectiveConfig
from fastvae.train.callbacks.callback import STOPPED_EARLY, Callback, RunView


class _Follower(Callback):
    """Follows the lowest loss or the highest other metric, and counts the evaluations since then.

    The loss is distortion + kl_weight * rate + penalty at the final weight, so evaluations before the schedule of the
    weight has reached it do not count. Other metrics do not depend on the weight: every evaluation counts.
    """

    needs_validation = True

    def __init__(self, min_delta: float = 0.0) -> None:
        self._min_delta = min_delta
        self._lowest, self._num_since = math.inf, 0

    def on_evaluation(self, run: RunView, evaluation: Evaluation) -> None:
        loss = _loss_of(run, evaluation)
        if loss is None:
            return
        is_better = loss < self._lowest - self._min_delta
        if is_better:
            self._lowest = loss
        self._num_since = 0 if is_better else self._num_since + 1
        self.after(run, is_better)

    def after(self, run: RunView, is_better: bool) -> None:
        """React to an evaluation that counts."""

    def state_dict(self) -> Mapping[str, Any]:
        lowest = None if math.isinf(self._lowest) else self._lowest
        return {"lowest_loss": lowest, "evaluations_since": self._num_since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lowest = math.inf if state["lowest_loss"] is None else state["lowest_loss"]
        self._num_since = state["evaluations_since"]


def _loss_of(run: RunView, evaluation: Evaluation) -> float | None:
    """The loss, or minus the metric that the run follows; None if the evaluation does not count."""
    if run.config.validation_metric == "ndcg_100":
        assert evaluation.ndcg_100 is not None, "evaluate_set sets it"
        return -evaluation.ndcg_100
    is_settled = run.step >= settled_step(run.config.objective)
    return evaluation.loss(run.config.objective.kl_weight) if is_settled else None


class EarlyStopping(_Follower):
    """Ends the run after ``patience`` consecutive evaluations without a lower loss.

    Args:
        patience: number of evaluations, at least 1.
        min_delta: nats by which a loss must be lower (or amount by which a metric must be higher) to count.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        super().__init__(min_delta)
        if patience < 1 or not 0 <= min_delta < math.inf:
            raise ValueError(
                f"EarlyStopping: patience must be at least 1 and min_delta >= 0, got {patience} and {min_delta}"
            )
        self._patience = patience

    def on_start(self, run: RunView) -> None:
        """End a resumed run at once if its patience was exhausted."""
        self._stop_if_exhausted(run)

    def after(self, run: RunView, is_better: bool) -> None:
        self._stop_if_exhausted(run)

    def _stop_if_exhausted(self, run: RunView) -> None:
        if self._num_since >= self._patience:
            what = _improvement(run)
            run.stop(f"{STOPPED_EARLY} at step {run.step}: no {what} at {self._num_since} evaluations")


class BestWeights(_Follower):
    """Keeps the weights of the lowest loss for the final evaluation."""

    def after(self, run: RunView, is_better: bool) -> None:
        if is_better:
            run.keep_best()

    def on_end(self, run: RunView) -> None:
        which = "last weights: no evaluation counted" if run.best_step is None else f"weights of step {run.best_step}"
        run.say(f"the final evaluation uses the {which}{'' if run.best_step is None else ', the best at validation'}")


class Plateau(_Follower):
    """Multiplies the learning rates by ``factor`` after ``patience`` consecutive evaluations without a lower loss.

    Args:
        patience: number of evaluations, at least 1.
        factor: factor in (0, 1).
        min_factor: the product of the factors does not fall below this.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, patience: int, factor: float = 0.5, min_factor: float = 0.01) -> None:
        super().__init__()
        if patience < 1 or not 0 < factor < 1 or not 0 <= min_factor < 1:
            raise ValueError(
                "Plateau: patience must be at least 1, factor in (0, 1) and min_factor in [0, 1), got "
                f"{patience}, {factor} and {min_factor}"
            )
        self._patience, self._factor, self._min_factor = patience, factor, min_factor

    def after(self, run: RunView, is_better: bool) -> None:
        if self._num_since >= self._patience:
            self._num_since = 0
            lowered = max(run.lr_factor * self._factor, self._min_factor)
            if lowered < run.lr_factor:
                run.lr_factor = lowered
                run.say(f"step {run.step}: learning rates times {lowered:g}, no {_improvement(run)}")


def _improvement(run: RunView) -> str:
    metric = run.config.validation_metric
    return "lower validation loss" if metric == "loss" else f"higher validation {metric}"


def settled_step(config: ObjectiveConfig) -> int:
    """Return the step at which the weight of the rate first has its final value."""
    phase = steps_of(config.autoencoder_phase)
    return phase if config.kl_schedule == "constant" else phase + steps_of(config.kl_warmup)
