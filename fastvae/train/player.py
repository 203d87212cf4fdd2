"""A model that is trained, with everything that exists once for each: strategy, optimizer, guard, moving average."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastvae.distributed import StepReport, Strategy, World, build_strategy
from fastvae.durations import Clock
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.optim import OptimizerFactory, Schedule, build_optimizer, build_own_optimizer, lr_at
from fastvae.train.optim_config import OptimConfig
from fastvae.train.state import EMA, TrainState
from fastvae.train.step import Judge, autocast
from fastvae.train.watch.config import GuardConfig
from fastvae.train.watch.guard import Guard


@dataclass(frozen=True, kw_only=True, eq=False)
class PlayerSpec:
    """A model that a task trains, and its settings."""

    name: str
    """Prefix of its metrics, such as ``NAME_lr``, and of its tensors in a checkpoint, ``NAME.model.*``."""
    model: nn.Module
    """The model: any module, built in the same way on every rank."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Settings of its optimizer."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Settings of its guard, which skips steps of this model only."""
    ema: float | None = None
    """Decay of an exponential moving average of its weights; None for off."""
    optimizer: OptimizerFactory | None = None
    """A function that builds its optimizer from (name, parameter) pairs, instead of ``optim.optimizer``."""
    schedule: Schedule | None = None
    """A function of step (from 0) and number of steps that returns the factor of the learning rate, instead of
    ``optim.schedule`` and ``optim.warmup``."""

    def settings(self) -> dict[str, Any]:
        """Its settings as in ``config.yaml``; a resumed run must have the same."""
        guard = {name: value for name, value in asdict(self.guard).items() if name != "stop_after"}
        return {"optim": asdict(self.optim), "guard": guard, "ema": self.ema, **self.own_functions()}

    def own_functions(self) -> dict[str, str]:
        """Names of the user's functions, which a resumed run must have too."""
        own = {"optimizer": self.optimizer, "schedule": self.schedule}
        return {f"own_{name}": getattr(each, "__qualname__", repr(each)) for name, each in own.items() if each}

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"PlayerSpec: name must be letters, digits and underscores, got {self.name!r}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"PlayerSpec: ema must be in (0, 1), or None for off, got {self.ema}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Player:
    """A model while it is trained: what a task's step works with."""

    name: str
    strategy: Strategy
    """Strategy with the model and its optimizer; a step calls ``strategy.module``."""
    config: TrainConfig
    """The settings of the run."""
    optim: OptimConfig
    """The settings of this model's optimizer."""
    guard: Guard
    """The guard that accepts or skips its steps."""
    ema: EMA | None
    """The moving average of its weights."""
    schedule: Schedule | None = None
    """A user's schedule of its learning rate."""
    judge: Judge | None = None
    """Replacement of the guard in a captured step."""

    def lr_at(self, step: int) -> float:
        """Return the learning rate of step ``step`` (0-based), without the factor of a plateau."""
        return lr_at(self.optim, step, self.config.num_steps, self.schedule)

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the run's precision, for the forward passes of a step."""
        return autocast(self.strategy.world.device, self.config.precision)

    def backward(self, losses: Tensor) -> None:
        """Accumulate the gradient of a loss; call it inside ``strategy.accumulate``.

        Args:
            losses: [B] in nats per example, or their sum []; the mean over the GLOBAL batch is minimised.

        Raises:
            ValueError: the losses have another shape, such as [B, B] by broadcasting.
        """
        if losses.dim() > 1:
            raise ValueError(
                f"Player.backward: losses must be [B] or their sum [], got {list(losses.shape)}; squeeze a network's"
                " scores [B, 1] before they are added to [B]"
            )
        self.strategy.backward(losses.sum() * (self.strategy.world.world_size / self.config.global_batch_size))

    def global_mean(self, local_sum: Tensor) -> Tensor:
        """Return the mean over the global batch, from the sum over this rank's examples; equal on all ranks."""
        return self.strategy.all_reduce_sum(local_sum) / self.config.global_batch_size

    def step(self, loss: Tensor) -> StepReport:
        """Update the parameters, unless the guard rejects the loss or the gradient.

        Args:
            loss: [] the sum of this rank's losses in this step, in nats.
        """
        judge = self.judge or self.guard
        return self.strategy.step(self.optim.max_grad_norm, partial(judge.accept, loss))


def all_specs(
    model: nn.Module,
    config: TrainConfig,
    opponents: tuple[PlayerSpec, ...],
    clock: Clock,
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule | None = None,
) -> dict[str, PlayerSpec]:
    """Return the specifications of the generator and of the task's other models, by name, with durations in steps.

    Raises:
        ValueError: two models have the same name.
    """
    generator = PlayerSpec(
        name=GENERATOR,
        model=model,
        optim=config,
        guard=config.guard,
        ema=config.ema,
        optimizer=optimizer,
        schedule=schedule,
    )
    others = (replace(spec, optim=clock.convert(spec.optim)) for spec in opponents)
    specs = {spec.name: spec for spec in (generator, *others)}
    if len(specs) != 1 + len(opponents):
        names = [GENERATOR, *(spec.name for spec in opponents)]
        raise ValueError(f"train: the players of a task must have different names, got {', '.join(names)}")
    return specs


def build_strategies(specs: Mapping[str, PlayerSpec], world: World, config: TrainConfig) -> dict[str, Strategy]:
    """Build one strategy per player, all of the same kind."""
    return {
        name: build_strategy(
            config.strategy,
            world,
            config.strategy_options(spec.optim, len(specs), own_optimizer=spec.optimizer is not None),
        )
        for name, spec in specs.items()
    }


def set_up(
    specs: Mapping[str, PlayerSpec], strategies: Mapping[str, Strategy], config: TrainConfig, methods: tuple[str, ...]
) -> dict[str, EMA | None]:
    """Wrap every model and initialise its moving average; ``methods`` are called on the generator, besides forward."""
    averages: dict[str, EMA | None] = {}
    for name, spec in specs.items():
        build = partial(build_optimizer, spec.optim, capturable=config.capture)
        if spec.optimizer is not None:
            build = partial(build_own_optimizer, spec.optim, spec.optimizer)
        strategies[name].setup(spec.model, build, methods if name == GENERATOR else ())
        parameters = strategies[name].full_precision_parameters() if spec.ema is not None else {}
        averages[name] = EMA(spec.ema, parameters) if spec.ema is not None else None
    return averages


def build_players(
    specs: Mapping[str, PlayerSpec],
    strategies: Mapping[str, Strategy],
    averages: Mapping[str, EMA | None],
    state: TrainState,
    config: TrainConfig,
) -> dict[str, Player]:
    """Build the players of a run at ``state``, by name."""
    return {
        name: Player(
            name=name,
            strategy=strategies[name],
            config=config,
            optim=spec.optim,
            guard=_guard(spec, strategies[name], state, config),
            ema=averages[name],
            schedule=spec.schedule,
        )
        for name, spec in specs.items()
    }


def _guard(spec: PlayerSpec, strategy: Strategy, state: TrainState, config: TrainConfig) -> Guard:
    reduce: Callable[[Tensor], Tensor] = strategy.all_reduce_sum
    return Guard(
        spec.guard,
        state.players[spec.name].guard,
        strategy.world.device,
        config.global_batch_size,
        reduce,
        lag=0 if config.debug_numerics else None,
    )


def column(player: str, what: str) -> str:
    """Return the name of a player's metric; those of the generator have no prefix."""
    return what if player == GENERATOR else f"{player}_{what}"
