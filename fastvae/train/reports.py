"""What the loop writes down: means over a window of steps, evaluations, and the line that a run starts with."""

from __future__ import annotations

from pathlib import Path

from fastvae.data import Data, evaluation_batches
from fastvae.distributed import Strategy
from fastvae.evaluate import Evaluation, evaluate
from fastvae.generative import AnyModel
from fastvae.objective import kl_weight_at
from fastvae.ops import backend
from fastvae.train.config import TrainConfig
from fastvae.train.optim import lr_at
from fastvae.train.run_dir.metrics import MetricsLog, Window
from fastvae.train.state import TrainState, averaged_weights
from fastvae.train.step import autocast


def headline(strategy: Strategy, data: Data, config: TrainConfig, step: int, run_dir: Path) -> str:
    """What is trained, on what, from where."""
    world = strategy.world
    where = f"{world.world_size} x {world.device.type}, {strategy.name}, {config.precision}"
    if world.backend is not None:
        where += f", messages over {world.backend}"
    origin = f"from the checkpoint of step {step}" if step else "from the start"
    if step >= config.steps:
        origin = f"already at step {step}; for a new run remove {run_dir} or choose another"
    count = sum(p.numel() for p in strategy.model.parameters())
    found = {(b.name, b.reason) for b in backend() if b.device == world.device.type}
    operators = ", ".join(f"{name} ({reason})" for name, reason in sorted(found))
    return (
        f"{data.name}: {len(data.train):,} examples, {count:,} parameters, {where}, "
        f"global batch {config.global_batch_size}, {config.steps:,} steps, {origin}; operators: {operators}"
    )


def log_window(log: MetricsLog, strategy: Strategy, state: TrainState, window: Window, config: TrainConfig) -> None:
    """Write the means over the global batches since the last call; all ranks together."""
    examples = (state.step - window.first_step) * config.global_batch_size
    seconds = window.seconds()
    loss, elbo, rate, distortion, *penalty = (strategy.all_reduce_sum(window.sums) / examples).tolist()
    model = AnyModel(strategy.model)
    bounds = {model.distortion_name: distortion}
    if model.estimates_elbo:
        bounds = {"loss_nats": loss, "elbo_nats": elbo, "rate_nats": rate, "distortion_nats": distortion}
    values: dict[str, float | int | None] = {
        **bounds,
        **dict(zip(("penalty",), penalty, strict=False)),
        "kl_weight": kl_weight_at(config.objective, state.step - 1),
        "lr": lr_at(config, state.step - 1),
        "grad_norm": window.grad_norm.item(),
        "skipped_steps": int(state.skipped_steps.item()),
        "examples_per_s": examples / seconds,
    }
    log.write("train", state.step, values)
    summary = f"ELBO {elbo:.3f} nats" if model.estimates_elbo else f"{model.distortion_name} {distortion:.4f}"
    log.advance(state.step, f"{examples / seconds:,.0f} examples/s", summary)


def log_evaluation(log: MetricsLog, kind: str, step: int, evaluation: Evaluation) -> None:
    """Write an evaluation's numbers."""
    values = {name: value for name, value in evaluation.known().items() if isinstance(value, int | float)}
    lists = {name: value for name, value in evaluation.known().items() if isinstance(value, tuple)}
    log.write(kind, step, values, lists)


def evaluate_test_set(
    strategy: Strategy, data: Data, config: TrainConfig, state: TrainState, *, seed: int, num_samples: int
) -> Evaluation:
    """Bounds on the test set, with the averaged weights where the run keeps any; all ranks together."""
    world = strategy.world
    with (
        averaged_weights(strategy, state.ema),
        strategy.whole_model() as model,
        autocast(world.device, config.precision),
    ):
        return evaluate(
            model,
            evaluation_batches(
                data.test,
                data.preprocess,
                batch_size=config.eval_batch_size,
                seed=seed,
                rank=world.rank,
                world_size=world.world_size,
                device=world.device,
            ),
            num_samples=num_samples,
            all_reduce_sum=strategy.all_reduce_sum,
            log_jacobian_nats=data.log_jacobian_nats,
            event_numel=data.event_numel,
        )
