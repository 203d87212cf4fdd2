"""The training loop of one process: load, step, log, evaluate, save."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data import Data, Loader, Source
from fastvae.distributed import Strategy
from fastvae.distributed.stop import StopRequest
from fastvae.durations import DurationOrNone, steps_of
from fastvae.evaluate import Evaluation
from fastvae.train.callbacks import Callbacks, RunView
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.deterministic import deterministic_algorithms
from fastvae.train.player import PlayerSpec, build_players, set_up
from fastvae.train.reports import evaluate_set, headline, log_evaluation, log_window, scheduled
from fastvae.train.run import Run
from fastvae.train.run_dir.files import dump_json, write_atomic
from fastvae.train.run_dir.logs import RankLog
from fastvae.train.run_dir.metrics import MetricsLog, Window
from fastvae.train.run_dir.results import write_data_state, write_pictures
from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.saving import Saver
from fastvae.train.run_dir.status import write_status
from fastvae.train.run_dir.weights import write_weights
from fastvae.train.state import copy_into
from fastvae.train.stepping import Step, build_step
from fastvae.train.task import Task
from fastvae.train.totals import Totals
from fastvae.train.watch.data_watch import DataWatch
from fastvae.train.watch.incidents import Incidents
from fastvae.train.watch.restart import DecoderRestart


class TrainingLoop:
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
        callbacks: Callbacks,
    ) -> None:
        self.data, self.config, self.run_dir, self.seed = data, config, run_dir, seed
        self.task, self.specs, self.saver, self.callbacks = task, specs, saver, callbacks
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
            loading=data.loading,
        )
        saver.identify({name: spec.model for name, spec in specs.items()}, data)
        averages = set_up(specs, strategies, config, task.methods(config))
        self.restart_decoder = DecoderRestart(self.strategy, config)
        emas = {name: {} if ema is None else ema.average for name, ema in averages.items()}
        self.state = saver.resume(emas, self._copy_of_weights() if config.keep_best else {})
        if self.world.is_main:
            write_data_state(run_dir, data)
        self.players = build_players(specs, strategies, averages, self.state, config)
        if config.compile:
            for strategy in strategies.values():
                strategy.module = torch.compile(strategy.module)  # type: ignore[assignment]

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.strategy.full_precision_parameters().items()}

    def run(self, stop: StopRequest, products: str, log: RankLog) -> Run:
        """Train to the end or to a stop signal, then evaluate and write the results; ``products`` is for the log."""
        first_step = self.state.step
        self.log = MetricsLog(
            self.run_dir,
            self.world,
            config=self.config,
            num_examples=len(self.data.train),
            first_step=first_step,
            lines=log,
        )
        with ExitStack() as stack:
            stack.callback(self.log.close)
            self.view = self._view()
            self.callbacks.start(self.view, self.state.callbacks)
            line = headline(self.strategy, self.data, self.config, self.state, self.run_dir)
            for note in self.data.notes:
                self.log.print_line(note)
            self.log.print_line(f"{line}; matrix products: {products}")
            write_status(self.run_dir, self.world, "running", first_step, num_steps=self.config.num_steps)
            window = Window(self.world.device, len(self.task.columns))
            totals = Totals(self.players, self.state, window)
            self.incidents = Incidents(self.task, self.players, self.loader, self.config, self.log)
            take_step = build_step(self.task, self.players, self.loader, self.config, first_step, totals)
            stack.callback(take_step.close)
            self.data_watch = DataWatch(self.loader, take_step, first_step, self.strategy, self.log.print_line)
            with deterministic_algorithms(self.config.deterministic):
                number = self._loop(stop, take_step, window)
            evaluation = None if number is not None else self._finish(stop)
        status = "done" if number is None else "preempted"
        reason = signal.Signals(number).name if number is not None else self.state.stopped or "all steps done"
        write_status(self.run_dir, self.world, status, self.state.step, reason=reason)
        return self._result(status, number, evaluation)

    def _view(self) -> RunView:
        return RunView(
            state=self.state,
            strategy=self.strategy,
            config=self.config,
            data=self.data,
            directory=self.run_dir,
            seed=self.seed,
            say=self.log.print_line,
            show=lambda name, path: self.log.show(name, path, self.state.step),
        )

    def _result(self, status: str, number: int | None, evaluation: Evaluation | None) -> Run:
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
        window.restart(state.step)
        while not self._is_over():
            stop.begin(trouble=self.saver.failed)
            self.restart_decoder(state.step, state.players[GENERATOR])
            take_step(state.step)
            state.step += 1
            self.incidents.settle(state.step)
            if _due(state.step, config.check_replicas):
                for strategy in self.strategies.values():
                    strategy.check_replicas()
            log_is_due = state.step in (1, config.num_steps) or _due(state.step, config.log_every)
            if log_is_due:
                self._log(window)
            self.callbacks.step(self.view)
            if _due(state.step, config.eval_every):
                self._evaluate_in_between()
            number, save_failed = stop.end()
            if save_failed:
                self.saver.finish()
            is_last = number is not None or self._is_over()
            if is_last or _due(state.step, config.checkpoint_every):
                state.callbacks = self.callbacks.checkpoint(self.view)
                self.saver.save(state, wait=is_last)
            if number is not None and not self._is_over():
                self.log.print_line(self._goodbye(number))
                return number
            if log_is_due:
                window.restart(state.step)  # only now: evaluating and saving do not count for the rate
        self.data_watch.end()
        self.callbacks.end(self.view)
        return None

    def _is_over(self) -> bool:
        return self.state.step >= self.config.num_steps or self.state.stopped is not None

    def _log(self, window: Window) -> None:
        numbers = scheduled(self.task, self.specs, self.config, self.state.step - 1, self.state.lr_factor)
        numbers |= self.data_watch.numbers(self.state.step, window.seconds())
        self.view.metrics = log_window(self.log, self.task.columns, numbers, self.players, self.state, window)
        self.callbacks.log(self.view)

    def _evaluate_in_between(self) -> None:
        is_validation = self.data.validation is not None
        source = self.data.validation if self.data.validation is not None else self.data.test
        ema = self.state.players[GENERATOR].ema
        evaluation = self._evaluate("validation" if is_validation else "evaluation", source, ema, num_samples=1)
        self.incidents.watch_collapse(evaluation, self.state)
        self.callbacks.evaluation(self.view, evaluation)

    def _goodbye(self, number: int) -> str:
        saved = self.saver.saved_step
        origin = "from the start" if saved is None else "from there"
        what = "no step is saved" if saved is None else f"saved step {saved}"
        return f"{signal.Signals(number).name}: {what}; the same command goes on {origin}"

    def _note_stop(self, number: int) -> None:
        write_status(self.run_dir, self.world, "preempted", self.state.step, reason=signal.Signals(number).name)

    def _evaluate(self, kind: str, source: Source, weights: dict[str, Tensor], num_samples: int) -> Evaluation:
        with deterministic_algorithms(self.config.deterministic):
            evaluation = evaluate_set(
                self.strategy, self.data, source, weights, self.config, seed=self.seed, num_samples=num_samples
            )
        log_evaluation(self.log, kind, self.state.step, evaluation)
        return evaluation

    def _finish(self, stop: StopRequest) -> Evaluation:
        """The last evaluation, the weights that it was made with, and the pictures; all steps are saved by now."""
        with stop.at_once(self._note_stop):
            return self._write_results()

    def _write_results(self) -> Evaluation:
        state = self.state
        weights = state.players[GENERATOR].ema if state.best_step is None else state.best
        evaluation = self._evaluate("final", self.data.test, weights, num_samples=self.config.final_samples)
        self.incidents.watch_final(evaluation, state)
        copy_into(self.strategy.full_precision_parameters(), weights)
        with self.strategy.whole_model() as model:
            if self.world.is_main:
                write_atomic(RunDir(self.run_dir).evaluation, dump_json(evaluation.known()))
                write_weights(RunDir(self.run_dir).weights, model)
                if self.config.pictures:
                    write_pictures(self.run_dir, model, self.data, self.seed, self.log.print_line)
        self.world.barrier()
        return evaluation


def _due(step: int, every: DurationOrNone) -> bool:
    return every is not None and step % steps_of(every) == 0
