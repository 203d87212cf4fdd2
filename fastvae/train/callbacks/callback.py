"""Callbacks: what a user adds to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fastvae.durations import Clock
from fastvae.evaluate import Evaluation
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.state import TrainState, averaged_weights, copy_into

if TYPE_CHECKING:
    from fastvae.data import Data
    from fastvae.distributed import Strategy


STOPPED_EARLY = "stopped early"
"""Start of the reason of `EarlyStopping`, which a resumed run evaluates again: its patience may be another."""


class RunView:
    """What a callback sees of a run and may do to it.

    Args:
        state: state of the run.
        strategy: strategy of the model that is evaluated.
        config: the settings, with durations in steps.
        data: the data of the run.
        directory: the run directory.
        say: prints a line.
        seed: seed of the run.
        show: writes a picture or text to the loggers.
    """

    def __init__(
        self,
        *,
        state: TrainState,
        strategy: Strategy,
        config: TrainConfig,
        data: Data,
        directory: Path,
        seed: int,
        say: Callable[[str], None],
        show: Callable[[str, Path], None],
    ) -> None:
        self._state, self._strategy = state, strategy
        self.config, self.data, self.directory, self.seed = config, data, directory, seed
        self.say, self.show = say, show
        self.metrics: Mapping[str, float | int | None] = {}
        """The last line of the log."""
        self._clock = Clock(
            num_examples=len(data.train), global_batch_size=config.global_batch_size, num_steps=config.num_steps
        )

    @property
    def step(self) -> int:
        """Number of completed optimizer steps."""
        return self._state.step

    @property
    def num_steps(self) -> int:
        """Number of optimizer steps of the run, if nothing stops it before."""
        return self.config.num_steps

    @property
    def num_examples(self) -> int:
        """Number of examples seen."""
        return self._clock.examples(self.step)

    @property
    def epoch(self) -> float:
        """Number of epochs seen."""
        return self._clock.epochs(self.step)

    @property
    def is_main(self) -> bool:
        """Whether this process writes: true on one rank."""
        return self._strategy.world.is_main

    @property
    def lr_factor(self) -> float:
        """Factor of all learning rates from the next step on; may be set, to the same value on all ranks."""
        return self._state.lr_factor

    @lr_factor.setter
    def lr_factor(self, factor: float) -> None:
        self._state.lr_factor = factor

    @property
    def stopped(self) -> str | None:
        """Reason why the run ends before its last step; None if it does not."""
        return self._state.stopped

    def stop(self, reason: str | None) -> None:
        """End the run after this step, as done; all ranks must call it at the same step. None lets it continue."""
        self._state.stopped = reason

    def keep_best(self) -> None:
        """Keep a copy of the present weights (averaged ones if the run has EMA) for the final evaluation.

        Raises:
            ValueError: the run does not keep its best weights.
        """
        if not self._state.best:
            raise ValueError("RunView.keep_best: set train.keep_best, so that checkpoints contain the best weights")
        ema = self._state.players[GENERATOR].ema
        copy_into(self._state.best, ema or self._strategy.full_precision_parameters())
        self._state.best_step = self.step

    @property
    def best_step(self) -> int | None:
        """Step of the weights that ``keep_best`` copied; None before."""
        return self._state.best_step

    @contextmanager
    def weights(self) -> Iterator[nn.Module]:
        """Context with the user's unwrapped model and the weights that an evaluation uses; entered by all ranks."""
        ema = self._state.players[GENERATOR].ema
        with averaged_weights(self._strategy, ema), self._strategy.whole_model() as model:
            yield model


class Callback:
    """What happens in addition to the steps of a run: a subclass overrides some of the methods.

    Every rank calls every method at the same step, so decisions must depend on equal numbers only, as those of an
    evaluation are; files are written where ``run.is_main``. Nothing may draw from torch's global generator.
    """

    needs_validation = False
    """Whether a validation set is held out if the data have none."""

    @property
    def name(self) -> str:
        """Name of the callback's state in a checkpoint; no two callbacks of a run have the same."""
        return type(self).__name__

    def on_start(self, run: RunView) -> None:
        """Before the first step of this process, at the start or after a resume."""

    def on_step(self, run: RunView) -> None:
        """After every optimizer step; reading a tensor here makes the device wait."""

    def on_log(self, run: RunView) -> None:
        """After a line of the log, which is ``run.metrics``."""

    def on_evaluation(self, run: RunView, evaluation: Evaluation) -> None:
        """After an evaluation during training."""

    def on_checkpoint(self, run: RunView) -> None:
        """Before a checkpoint is written, which contains the state that `state_dict` then returns."""

    def on_end(self, run: RunView) -> None:
        """After the last step, before the final evaluation; not if the run is stopped by a signal."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state as JSON values; a checkpoint has it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the state to one that `state_dict` returned."""


class Callbacks:
    """The callbacks of a run, called in order.

    Args:
        callbacks: callbacks with different names.

    Raises:
        ValueError: two callbacks have the same name.
        TypeError: one of them is not a callback.
    """

    def __init__(self, callbacks: tuple[Callback, ...]) -> None:
        for each in callbacks:
            if not isinstance(each, Callback):
                raise TypeError(
                    f"train: callbacks must be objects of subclasses of fastvae.train.Callback, got {each!r}"
                )
        names = [each.name for each in callbacks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"train: callbacks must have different names, got {name} twice; override `name`")
        self._all = callbacks
        self._each_step = [each for each in callbacks if type(each).on_step is not Callback.on_step]

    @property
    def need_validation(self) -> bool:
        """Whether one of them needs a validation set."""
        return any(each.needs_validation for each in self._all)

    @property
    def need_evaluations(self) -> bool:
        """Whether one of them reacts to evaluations."""
        return any(type(each).on_evaluation is not Callback.on_evaluation for each in self._all)

    def start(self, run: RunView, saved: Mapping[str, Any]) -> None:
        """Restore the callbacks' states by name, and call ``on_start``.

        States without a callback are dropped, with a line that names them. A run that ended early continues, unless one
        of the callbacks ends it again.
        """
        dropped = saved.keys() - {each.name for each in self._all}
        if dropped:
            names = ", ".join(sorted(dropped))
            run.say(f"callbacks: the checkpoint has the state of {names}, which this run does not have; it is dropped")
        if run.stopped is not None and run.stopped.startswith(STOPPED_EARLY):
            run.stop(None)
        for each in self._all:
            if each.name in saved:
                each.load_state_dict(saved[each.name])
            each.on_start(run)

    def step(self, run: RunView) -> None:
        """Call ``on_step``."""
        for each in self._each_step:
            each.on_step(run)

    def log(self, run: RunView) -> None:
        """Call ``on_log``."""
        for each in self._all:
            each.on_log(run)

    def evaluation(self, run: RunView, evaluation: Evaluation) -> None:
        """Call ``on_evaluation``."""
        for each in self._all:
            each.on_evaluation(run, evaluation)

    def checkpoint(self, run: RunView) -> dict[str, Any]:
        """Call ``on_checkpoint``; return the states by name."""
        for each in self._all:
            each.on_checkpoint(run)
        return {each.name: dict(each.state_dict()) for each in self._all}

    def end(self, run: RunView) -> None:
        """Call ``on_end``."""
        for each in self._all:
            each.on_end(run)
