"""Incidents of a run: skipped steps, values that stay non-finite, posterior collapse."""

from __future__ import annotations

from collections.abc import Mapping

from fastvae.data import Loader
from fastvae.evaluate import Evaluation
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.player import Player, column
from fastvae.train.run_dir.metrics import MetricsLog
from fastvae.train.state import TrainState
from fastvae.train.task import Task
from fastvae.train.watch.collapse import advice, is_collapsed
from fastvae.train.watch.guard import Skip

_SAID = 10  # number of skips that are printed; all are in metrics.jsonl


class TrainingDiverged(RuntimeError):
    """Loss or gradient was not finite at too many consecutive steps."""


class Incidents:
    """Reads the guards' verdicts after each step; all ranks read the same ones."""

    def __init__(
        self, task: Task, players: Mapping[str, Player], loader: Loader, config: TrainConfig, log: MetricsLog
    ) -> None:
        self._task, self._players, self._loader, self._config, self._log = task, players, loader, config, log
        self._count = 0

    def settle(self, step: int) -> None:
        """Log the steps that were skipped up to ``step``.

        Raises:
            TrainingDiverged: loss or gradient was not finite at too many consecutive steps; the message names the
                cause.
        """
        for player in self._players.values():
            stop_after = 1 if self._config.debug_numerics else min(player.guard.stop_after, self._config.num_steps)
            for skip in player.guard.settle(step, wait=step == self._config.num_steps):
                self._write(player.name, skip)
                if not skip.finite and skip.not_finite_in_a_row >= stop_after:
                    raise TrainingDiverged(self._explain(player, skip))

    def watch_collapse(self, evaluation: Evaluation, state: TrainState) -> None:
        """Warn once if too few latent units were active at several consecutive evaluations."""
        config = self._config.collapse
        state.collapsed_evaluations = state.collapsed_evaluations + 1 if is_collapsed(config, evaluation) else 0
        if state.collapsed_evaluations == config.evaluations:
            self._log.print_line(advice(config, evaluation))
            units = {"active_units": evaluation.active_units, "latent_units": evaluation.latent_units}
            self._log.write("posterior_collapse", state.step, units)

    def watch_final(self, evaluation: Evaluation, state: TrainState) -> None:
        """Warn at the end of a run that has collapsed and has not said so during training."""
        config = self._config.collapse
        if is_collapsed(config, evaluation) and state.collapsed_evaluations < config.evaluations:
            self._log.print_line(advice(config, evaluation, is_final=True))

    def _write(self, player: str, skip: Skip) -> None:
        kind = column(player, "skipped_spike" if skip.finite else "skipped_not_finite")
        self._log.write(kind, skip.step, {"loss_nats": skip.loss_nats, "grad_norm": skip.grad_norm})
        self._count += 1
        if self._count <= _SAID:
            why = "far above their usual level" if skip.finite else "not finite"
            whose = "" if player == GENERATOR else f" of the {player}"
            self._log.print_line(
                f"step {skip.step}{whose} skipped on all ranks: loss {skip.loss_nats:.4g} nats or gradient norm "
                f"{skip.grad_norm:.4g} {why}"
            )
        if self._count == _SAID:
            self._log.print_line("further skipped steps are in metrics.jsonl only")

    def _explain(self, player: Player, skip: Skip) -> str:
        step = skip.step - 1
        finding = self._task.explain(player, self._loader.load(step), self._task.numbers(self._config, step))
        times = f"at the last {skip.not_finite_in_a_row} steps, up to" if skip.not_finite_in_a_row > 1 else "at"
        whose = "" if player.name == GENERATOR else f" of the {player.name}"
        return (
            f"train: loss or gradient{whose} was not finite {times} step {skip.step}, and no weight was changed; "
            f"{finding}"
        )
