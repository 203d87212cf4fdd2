"""``train``: set up the processes, check the model and the data, and run the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fastvae.data import VALIDATION_SHARE, Data, as_data, hold_out
from fastvae.distributed import enter_world
from fastvae.distributed.stop import StopRequest
from fastvae.evaluate import check_support
from fastvae.train.arguments import check_types
from fastvae.train.batch_norm import check_batch_norm
from fastvae.train.callbacks import Callback, Callbacks, from_config
from fastvae.train.config import GENERATOR, TrainConfig, in_steps, run_clock
from fastvae.train.contract import check_contract
from fastvae.train.deterministic import fixed_workspace
from fastvae.train.loop import TrainingLoop
from fastvae.train.matmul import matmul_library
from fastvae.train.optim import OptimizerFactory, Schedule
from fastvae.train.player import all_specs, build_strategies
from fastvae.train.reports import check_metric, scheduled
from fastvae.train.run import Run
from fastvae.train.run_dir.lock import hold_together
from fastvae.train.run_dir.loggers import check_loggers
from fastvae.train.run_dir.logs import FailureRecorder, rank_log
from fastvae.train.run_dir.new import new_run_dir
from fastvae.train.run_dir.resume import Resume, plain
from fastvae.train.run_dir.saving import Saver
from fastvae.train.step import check_objective
from fastvae.train.task import ELBOTask, Task
from fastvae.train.tasks import build_task


def train(
    model: nn.Module,
    data: Any,
    config: TrainConfig | None = None,
    *,
    task: Task | None = None,
    callbacks: Sequence[Callback] = (),
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule | None = None,
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
        callbacks: what happens in addition to the steps, after the callbacks of ``config``; see
            `fastvae.train.Callback`. A resumed run restores their states by name.
        optimizer: builds the optimizer from (name, parameter) pairs, in place of ``config.optimizer``. The learning
            rate of its first group must be ``config.lr``; other groups keep their ratio to it.
        schedule: factor of the learning rate, a function of the step (from 0) and the number of steps, in place of
            ``config.schedule`` and ``config.warmup``.
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
    check_loggers(config.loggers)
    data = as_data(data)
    if task is not None and config.task != TrainConfig.task:
        raise ValueError(f"train: give task or config.task, got {type(task).__name__} and {config.task!r}")
    own_callbacks = Callbacks((*from_config(config), *callbacks))
    data, used = _prepare(data, config, own_callbacks)
    resolved = {"seed": seed, "model": None, "data": None, **(description or {}), "train": asdict(config)}
    clock, config = run_clock(used, len(data.train)), in_steps(used, len(data.train))
    own_task = task or build_task(config, model, data, seed)
    run_dir = Path(run_dir) if run_dir is not None else new_run_dir()
    specs = all_specs(model, config, own_task.opponents, clock, optimizer, schedule)
    resolved |= specs[GENERATOR].own_functions()
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
        check_metric(model, data, config)
        is_bound = isinstance(own_task, ELBOTask)
        if is_bound:
            check_objective(model, config.objective)
        shares = world.world_size * config.accumulation
        norms = check_batch_norm(model, config.global_batch_size // shares)
        notes = check_contract(model, data, config, seed=seed, device=world.device, is_bound=is_bound)
        data = replace(data, notes=(*data.notes, *norms, *notes))
        rows = -(-config.global_batch_size // shares)
        products = stack.enter_context(matmul_library(config.matmul, model, rows, world.device))
        loop = TrainingLoop(own_task, specs, strategies, data, config, run_dir, seed, saver, own_callbacks)
        recorder.state = loop.state
        run = loop.run(stop, products, log)
        recorder.state = None  # status.json says how the run ended; a rank that hangs at the end does not change it
        return run


def _prepare(data: Data, config: TrainConfig, callbacks: Callbacks) -> tuple[Data, TrainConfig]:
    """Return data with the validation set that the callbacks need, and settings with the evaluations that they need.

    Raises:
        ValueError: there are too few examples for a validation set.
    """
    if callbacks.need_validation and data.validation is None:
        data = hold_out(data, VALIDATION_SHARE)
    if callbacks.need_evaluations and config.eval_every is None:
        config = replace(config, eval_every=_evaluation_interval(data, config))
    if config.global_batch_size > len(data.train):
        note = (
            f"train.global_batch_size: {config.global_batch_size} is more than the {len(data.train)} training examples;"
            " every step takes all of them"
        )
        data = replace(data, notes=(*data.notes, note))
    return data, config


def _evaluation_interval(data: Data, config: TrainConfig) -> int:
    """Return every how many steps a run is evaluated: 2 % of it, and no more examples are evaluated than trained on."""
    clock = run_clock(config, len(data.train))
    source = data.test if data.validation is None else data.validation
    return max(clock.steps("2%"), -(-len(source) // clock.global_batch_size))
