"""Output of the training loop: means over a window of steps, evaluations, and the first line of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from fastvae.data import Data, Source, evaluation_batches
from fastvae.distributed import Strategy
from fastvae.evaluate import Evaluation, evaluate
from fastvae.evaluate.ranking import evaluate_ranking, model_scorer
from fastvae.generative import AnyModel
from fastvae.ops import backend
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.optim import lr_at
from fastvae.train.player import Player, PlayerSpec, column
from fastvae.train.run_dir.metrics import MetricsLog, Window
from fastvae.train.state import TrainState, averaged_weights
from fastvae.train.step import autocast
from fastvae.train.task import Task


def headline(strategy: Strategy, data: Data, config: TrainConfig, state: TrainState, run_dir: Path) -> str:
    """Return the first line of a run: data, model size, devices, settings and first step."""
    world = strategy.world
    where = f"{world.world_size} x {world.device.type}, {strategy.name}, {config.precision}"
    if world.backend is not None:
        where += f", messages over {world.backend}"
    step = state.step
    origin = f"from the checkpoint of step {step}" if step else "from the start"
    if step >= config.num_steps or state.stopped is not None:
        why = "" if state.stopped is None else f" ({state.stopped})"
        origin = f"already at step {step}{why}; for a new run remove {run_dir} or choose another"
    epochs = config.num_steps * config.global_batch_size / len(data.train)
    count = sum(p.numel() for p in strategy.model.parameters())
    found = {(b.name, b.reason) for b in backend() if b.device == world.device.type}
    operators = ", ".join(f"{name} ({reason})" for name, reason in sorted(found))
    return (
        f"{data.name}: {len(data.train):,} examples, {count:,} parameters, {where}, "
        f"global batch {config.global_batch_size}, {config.num_steps:,} steps = {epochs:.4g} epochs, {origin}; "
        f"operators: {operators}"
    )


def scheduled(
    task: Task, specs: Mapping[str, PlayerSpec], config: TrainConfig, step: int, lr_factor: float
) -> dict[str, float]:
    """Return the values of all schedules at a step by name: those of the task, and learning rates."""
    rates = {
        column(name, "lr"): lr_at(spec.optim, step, config.num_steps, spec.schedule) * lr_factor
        for name, spec in specs.items()
    }
    return {**task.numbers(config, step), **rates}


def log_window(
    log: MetricsLog,
    columns: Sequence[str],
    numbers: Mapping[str, float],
    players: Mapping[str, Player],
    state: TrainState,
    window: Window,
) -> dict[str, float | int | None]:
    """Write and return the means over the global batches since the last call; called by all ranks together.

    Args:
        log: log that they are written to.
        columns: the names of the window's sums.
        numbers: result of ``scheduled`` for the last step.
        players: the models that are trained.
        state: state of the run.
        window: the sums since the last call.
    """
    generator = players[GENERATOR]
    examples = (state.step - window.first_step) * generator.config.global_batch_size
    seconds = window.seconds()
    means = (generator.strategy.all_reduce_sum(window.sums) / examples).tolist()
    means_by_name = dict(zip(columns, means, strict=False))  # a step may omit the last columns
    values: dict[str, float | int | None] = {**means_by_name, **numbers}
    for name in players:
        if name in window.grad_norms:
            values[column(name, "grad_norm")] = window.grad_norms[name].item()
        values[column(name, "skipped_steps")] = int(state.players[name].skipped_steps.item())
    values["examples_per_s"] = examples / seconds
    log.write("train", state.step, values)
    shown = "elbo_nats" if "elbo_nats" in means_by_name else columns[0]
    rate, numbers_shown = f"{examples / seconds:,.0f} examples/s", f"{shown} {means_by_name[shown]:.4g}"
    log.advance(state.step, rate, numbers_shown, means_by_name[columns[0]])
    return values


def log_evaluation(log: MetricsLog, kind: str, step: int, evaluation: Evaluation) -> None:
    """Write the results of an evaluation."""
    values = {name: value for name, value in evaluation.known().items() if isinstance(value, int | float)}
    lists = {name: value for name, value in evaluation.known().items() if isinstance(value, tuple)}
    log.write(kind, step, values, lists)


def evaluate_set(
    strategy: Strategy,
    data: Data,
    source: Source,
    weights: dict[str, Tensor],
    config: TrainConfig,
    *,
    seed: int,
    num_samples: int,
) -> Evaluation:
    """Evaluate examples of the data, with these weights instead of the present ones; called by all ranks together."""
    world = strategy.world
    with (
        averaged_weights(strategy, weights),
        strategy.whole_model() as model,
        autocast(world.device, config.precision),
    ):
        evaluation = evaluate(
            model,
            evaluation_batches(
                source,
                data.preprocess,
                batch_size=config.eval_batch_size,
                seed=seed,
                rank=world.rank,
                world_size=world.world_size,
                device=world.device,
                loading=data.loading,
                timeout_s=config.timeout,
            ),
            num_samples=num_samples,
            all_reduce_sum=strategy.all_reduce_sum,
            log_jacobian_nats=data.log_jacobian_nats,
            event_numel=data.event_numel,
        )
        return evaluation if config.validation_metric == "loss" else _with_ndcg(evaluation, model, source, strategy)


def _with_ndcg(evaluation: Evaluation, model: nn.Module, source: Source, strategy: Strategy) -> Evaluation:
    was_training, world = model.training, strategy.world
    model.eval()
    try:
        ranking = evaluate_ranking(
            model_scorer(model),
            source,
            rank=world.rank,
            world_size=world.world_size,
            all_reduce_sum=lambda figures: strategy.all_reduce_sum(figures.to(world.device)).cpu(),
        )
    finally:
        model.train(was_training)
    return replace(evaluation, ndcg_100=ranking.ndcg_100.mean)


def check_metric(model: nn.Module, data: Data, config: TrainConfig) -> None:
    """Check that model and data have the metric that ``config`` follows.

    Raises:
        ValueError: they are not those of a recommender.
    """
    if config.validation_metric != "loss" and not (data.kind == "interactions" and AnyModel(model).can("reconstruct")):
        raise ValueError(
            f"train.validation_metric={config.validation_metric} requires a recommender, got {type(model).__name__} and"
            f" data of kind {data.kind}; set it to loss"
        )
