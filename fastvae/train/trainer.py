"""The trainer: load, step, log, evaluate, save."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastvae.data import Data, Loader, as_data
from fastvae.distributed import Strategy, enter_world
from fastvae.distributed.stop import StopRequest, exit_code
from fastvae.evaluate import Evaluation, check_support
from fastvae.train.arguments import check_types
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.contract import check_contract
from fastvae.train.deterministic import deterministic_algorithms, fixed_workspace
from fastvae.train.matmul import matmul_library
from fastvae.train.player import PlayerSpec, all_specs, build_players, build_strategies, set_up
from fastvae.train.reports import evaluate_test_set, headline, log_evaluation, log_window, scheduled
from fastvae.train.run_dir.files import dump_json, write_atomic
from fastvae.train.run_dir.lock import hold_together
from fastvae.train.run_dir.logs import FailureRecorder, RankLog, rank_log
from fastvae.train.run_dir.metrics import MetricsLog, Window
from fastvae.train.run_dir.new import new_run_dir
from fastvae.train.run_dir.results import write_data_state, write_pictures
from fastvae.train.run_dir.resume import Resume, plain
from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.saving import Saver
from fastvae.train.run_dir.status import write_status
from fastvae.train.run_dir.weights import write_weights
from fastvae.train.state import copy_into
from fastvae.train.step import check_objective
from fastvae.train.stepping import Step, build_step
from fastvae.train.task import ELBOTask, Task
from fastvae.train.tasks import build_task
from fastvae.train.totals import Totals
from fastvae.train.watch.incidents import Incidents
from fastvae.train.watch.restart import DecoderRestart


@dataclass(frozen=True, kw_only=True)
class Run:
    """Result of a call of ``train``."""

    directory: Path
    status: str  # done or preempted
    step: int
    signal: int | None  # the signal that stopped it
    model: nn.Module  # has the evaluated weights: the averaged ones if the run has EMA
    evaluation: Evaluation | None  # evaluation of the test set; None if the run was stopped
    is_main: bool  # whether this process should print

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal number, as in shells: 143 TERM, 130 INT, 138 USR1."""
        return 0 if self.signal is None else exit_code(self.signal)


def train(
    model: nn.Module,
    data: Any,
    config: TrainConfig | None = None,
    *,
    task: Task | None = None,
    run_dir: str | Path | None = None,
    resume: Resume = True,
    seed: int = 0,
    description: Mapping[str, Any] | None = None,
) -> Run:
    """Train ``model`` on ``data``; the same call with the same ``run_dir`` resumes from its newest checkpoint.

    The same script runs in one process and, under torchrun, in many: the noise, the order of the examples and so the
    result (to float round-off) do not depend on their number.

    Args:
        model: any module with ``forward(batch, noise_key) -> VAETerms``, such as ``fastvae.VAE``; if forward also has a
            parameter ``draw`` (`fastvae.Draw`), it can be trained with several samples or free bits. The attribute
            ``estimates_elbo = False`` declares that it has no bound to report. It is trained in place and must be built
            in the same way on every rank; DDP starts from rank 0's weights.
        data: a ``fastvae.data.Data``, or an array, tensor or indexable data set (or a pair: train, test).
        config: the settings; the defaults where None.
        task: how a step is taken, and which models are trained besides ``model``, such as a discriminator; None is the
            task that ``config`` names, by default the one that trains on its objective. See `fastvae.train.task`.
        run_dir: where everything about the run is written; None makes a new directory below ``runs``. A directory
            belongs to one run: other data, another model or other settings are refused.
        resume: True resumes the run of ``run_dir``, if any; False refuses a directory that contains one;
            "must" refuses one without a checkpoint.
        seed: seed of noise and order, in ``[0, 2**32)``.
        description: description of model and data for ``config.yaml`` and the checkpoints.

    Raises:
        ValueError: a setting, the data or the run directory break a rule; the message names it and the remedy.
        TypeError: model, config or task is of another type.
        TrainingDiverged: loss or gradient was not finite at too many steps.
        PeerFailed: another rank failed first or does not respond; the message names it and its host.
    """
    config = TrainConfig() if config is None else config
    check_types(model, config, task)
    data = as_data(data)
    if task is not None and config.task != TrainConfig.task:
        raise ValueError(f"train: give task or config.task, got {type(task).__name__} and {config.task!r}")
    own_task = task or build_task(config, model, data, seed)
    run_dir = Path(run_dir) if run_dir is not None else new_run_dir()
    specs = all_specs(model, config, own_task.opponents)
    resolved = {"seed": seed, "model": None, "data": None, **(description or {}), "train": asdict(config)}
    if task is not None:
        opponents = {spec.name: spec.settings() for spec in task.opponents}
        resolved |= {"task": type(task).__name__, "opponents": opponents}
    with ExitStack() as stack:
        log = stack.enter_context(rank_log(run_dir))
        stack.enter_context(fixed_workspace(config.deterministic, config.device))
        recorder = FailureRecorder(run_dir, log)
        world = stack.enter_context(
            enter_world(config.device, timeout_s=config.timeout, on_failure=recorder, last_words=log.show)
        )
        stop = stack.enter_context(StopRequest(world, grace_seconds=config.grace_seconds).listening())
        lock = stack.enter_context(hold_together(run_dir, world))
        strategies = build_strategies(specs, world, config)
        for strategy in strategies.values():
            stack.callback(strategy.close)
        saver = Saver(
            run_dir,
            strategies,
            config,
            plain(resolved),
            lock,
            resume,
            scheduled=partial(scheduled, own_task, specs, config),
            replicated=own_task.tensors(),
        )
        stack.push(saver.leave)
        check_support(model, data)
        is_bound = isinstance(own_task, ELBOTask)
        if is_bound:
            check_objective(model, config.objective)
        notes = check_contract(model, data, config, seed=seed, device=world.device, is_bound=is_bound)
        data = replace(data, notes=(*data.notes, *notes)) if notes else data
        rows = -(-config.global_batch_size // (world.world_size * config.accumulation))
        products = stack.enter_context(matmul_library(config.matmul, model, rows, world.device))
        trainer = _Trainer(own_task, specs, strategies, data, config, run_dir, seed, saver)
        recorder.state = trainer.state
        run = trainer.run(stop, products, log)
        recorder.state = None  # status.json says how the run ended; a rank that hangs at the end does not change it
        return run


class _Trainer:
    """The training loop of one process."""

    def __init__(
        self,
        task: Task,
        specs: Mapping[str, PlayerSpec],
        strategies: Mapping[str, Strategy],
        data: Data,
        config: TrainConfig,
        run_dir: Path,
        seed: int,
        saver: Saver,
    ) -> None:
        self.data, self.config, self.run_dir, self.seed = data, config, run_dir, seed
        self.task, self.specs, self.saver = task, specs, saver
        self.strategies, self.strategy = strategies, strategies[GENERATOR]
        self.world = self.strategy.world
        self.loader = Loader(
            data.train,
            data.preprocess,
            global_batch_size=config.global_batch_size,
            seed=seed,
            rank=self.world.rank,
            world_size=self.world.world_size,
            accumulation=config.accumulation,
            device=self.world.device,
        )
        saver.identify({name: spec.model for name, spec in specs.items()}, data)
        averages = set_up(specs, strategies, config, task.methods(config))
        self.restart_decoder = DecoderRestart(self.strategy, config)
        self.state = saver.resume({name: {} if ema is None else ema.average for name, ema in averages.items()})
        if self.world.is_main:
            write_data_state(run_dir, data)
        self.players = build_players(specs, strategies, averages, self.state, config)
        if config.compile:
            for strategy in strategies.values():
                strategy.module = torch.compile(strategy.module)  # type: ignore[assignment]

    def run(self, stop: StopRequest, products: str, log: RankLog) -> Run:
        """Train to the end or to a stop signal, then evaluate and write the results; ``products`` is for the log."""
        first_step = self.state.step
        self.log = MetricsLog(
            self.run_dir,
            self.world,
            total_steps=self.config.steps,
            first_step=first_step,
            lines=log,
            is_shown=self.config.progress,
        )
        with ExitStack() as stack:
            stack.callback(self.log.close)
            line = headline(self.strategy, self.data, self.config, first_step, self.run_dir)
            for note in self.data.notes:
                self.log.print_line(note)
            self.log.print_line(f"{line}; matrix products: {products}")
            write_status(self.run_dir, self.world, "running", first_step)
            window = Window(self.world.device, len(self.task.columns))
            totals = Totals(self.players, self.state, window)
            self.incidents = Incidents(self.task, self.players, self.loader, self.config, self.log)
            take_step = build_step(self.task, self.players, self.loader, self.config, first_step, totals)
            stack.callback(take_step.close)
            with deterministic_algorithms(self.config.deterministic):
                number = self._loop(stop, take_step, window)
            evaluation = None if number is not None else self._finish(stop)
        status = "done" if number is None else "preempted"
        reason = "all steps done" if number is None else signal.Signals(number).name
        write_status(self.run_dir, self.world, status, self.state.step, reason=reason)
        for name, strategy in self.strategies.items():
            if name != GENERATOR:
                with strategy.whole_model():
                    pass  # leaves the last weights in the task's model
        with self.strategy.whole_model() as model:  # and here in the argument of `train`
            return Run(
                directory=self.run_dir,
                status=status,
                step=self.state.step,
                signal=number,
                model=model,
                evaluation=evaluation,
                is_main=self.world.is_main,
            )

    def _loop(self, stop: StopRequest, take_step: Step, window: Window) -> int | None:
        """Load, step, log, evaluate, save, until the last step or a signal, whose number is returned."""
        config, state = self.config, self.state
        incidents = self.incidents
        window.restart(state.step)
        while state.step < config.steps:
            stop.begin(trouble=self.saver.failed)
            self.restart_decoder(state.step, state.players[GENERATOR])
            take_step(state.step)
            state.step += 1
            incidents.settle(state.step)
            if _due(state.step, config.check_replicas):
                for strategy in self.strategies.values():
                    strategy.check_replicas()
            log_is_due = state.step in (1, config.steps) or _due(state.step, config.log_every)
            if log_is_due:
                numbers = scheduled(self.task, self.specs, config, state.step - 1)
                log_window(self.log, self.task.columns, numbers, self.players, state, window)
            if _due(state.step, config.eval_every):
                incidents.watch_collapse(self._evaluate("evaluation", num_samples=1), state)
            number, save_failed = stop.end()
            if save_failed:
                self.saver.finish()
            is_last = number is not None or state.step == config.steps
            if is_last or _due(state.step, config.checkpoint_every):
                self.saver.save(state, wait=is_last)
            if number is not None and state.step < config.steps:
                self.log.print_line(self._goodbye(number))
                return number
            if log_is_due:
                window.restart(state.step)  # only now: evaluating and saving do not count for the rate
        return None

    def _goodbye(self, number: int) -> str:
        saved = self.saver.saved_step
        origin = "from the start" if saved is None else "from there"
        what = "no step is saved" if saved is None else f"saved step {saved}"
        return f"{signal.Signals(number).name}: {what}; the same command goes on {origin}"

    def _note_stop(self, number: int) -> None:
        write_status(self.run_dir, self.world, "preempted", self.state.step, reason=signal.Signals(number).name)

    def _evaluate(self, kind: str, num_samples: int) -> Evaluation:
        with deterministic_algorithms(self.config.deterministic):
            evaluation = evaluate_test_set(
                self.strategy, self.data, self.config, self.state, seed=self.seed, num_samples=num_samples
            )
        log_evaluation(self.log, kind, self.state.step, evaluation)
        return evaluation

    def _finish(self, stop: StopRequest) -> Evaluation:
        """The last evaluation, the weights that it was made with, and the pictures; all steps are saved by now."""
        with stop.at_once(self._note_stop):
            return self._write_results()

    def _write_results(self) -> Evaluation:
        evaluation = self._evaluate("final", num_samples=self.config.final_samples)
        self.incidents.watch_final(evaluation, self.state)
        copy_into(self.strategy.full_precision_parameters(), self.state.players[GENERATOR].ema)
        with self.strategy.whole_model() as model:
            if self.world.is_main:
                write_atomic(RunDir(self.run_dir).evaluation, dump_json(evaluation.known()))
                write_weights(RunDir(self.run_dir).weights, model)
                if self.config.pictures:
                    write_pictures(self.run_dir, model, self.data, self.seed, self.log.print_line)
        self.world.barrier()
        return evaluation


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
