"""A model that is trained, with everything that exists once for each: strategy, optimizer, guard, moving average."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from fastvae.distributed import StepReport, Strategy, World, build_strategy
from fastvae.train.config import GENERATOR, GuardConfig, OptimConfig, TrainConfig
from fastvae.train.optim import build_optimizer
from fastvae.train.state import EMA, TrainState
from fastvae.train.step import Judge, autocast
from fastvae.train.watch.guard import Guard


@dataclass(frozen=True, kw_only=True, eq=False)
class PlayerSpec:
    """A model that a task trains, and how."""

    name: str
    """Names its metrics, ``NAME_lr`` and others, and its tensors in a checkpoint, ``NAME.model.*``."""
    model: nn.Module
    """Any module; build it alike on every rank."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is updated."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Which of its steps are skipped; another model's steps are not."""
    ema: float | None = None
    """Decay of an exponential moving average of its weights; None for off."""

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
    """Holds the model and its optimizer: ``strategy.module`` is what a step calls."""
    config: TrainConfig
    """The settings of the run."""
    optim: OptimConfig
    """The settings of this model's optimizer."""
    guard: Guard
    """Judges its steps."""
    ema: EMA | None
    """The moving average of its weights."""
    judge: Judge | None = None
    """What judges in the guard's place, in a captured step."""

    def autocast(self) -> torch.autocast:
        """The precision of the run, for the forward passes of a step."""
        return autocast(self.strategy.world.device, self.config.precision)

    def backward(self, losses: Tensor) -> None:
        """Add the gradient of a loss to what this step has gathered; inside ``strategy.accumulate``.

        Args:
            losses: [B] in nats per example, or their sum []; the mean over the GLOBAL batch is what is minimised.
        """
        self.strategy.backward(losses.sum() * (self.strategy.world.world_size / self.config.global_batch_size))

    def global_mean(self, local_sum: Tensor) -> Tensor:
        """The mean over the global batch of what this rank has summed over its examples; equal on all ranks."""
        return self.strategy.all_reduce_sum(local_sum) / self.config.global_batch_size

    def step(self, loss: Tensor) -> StepReport:
        """Update the parameters, or leave them as they are where the guard refuses the loss or the gradient.

        Args:
            loss: [] the sum of this rank's losses in this step, in nats.
        """
        judge = self.judge or self.guard
        return self.strategy.step(self.optim.max_grad_norm, partial(judge.accept, loss))


def all_specs(model: nn.Module, config: TrainConfig, opponents: tuple[PlayerSpec, ...]) -> dict[str, PlayerSpec]:
    """The generator and a task's other models, by name.

    Raises:
        ValueError: two have the same name.
    """
    generator = PlayerSpec(name=GENERATOR, model=model, optim=config, guard=config.guard, ema=config.ema)
    specs = {spec.name: spec for spec in (generator, *opponents)}
    if len(specs) != 1 + len(opponents):
        names = [GENERATOR, *(spec.name for spec in opponents)]
        raise ValueError(f"train: the players of a task must have different names, got {', '.join(names)}")
    return specs


def build_strategies(specs: Mapping[str, PlayerSpec], world: World, config: TrainConfig) -> dict[str, Strategy]:
    """A strategy for each player, of the same kind."""
    return {
        name: build_strategy(config.strategy, world, config.strategy_options(spec.optim, len(specs)))
        for name, spec in specs.items()
    }


def set_up(
    specs: Mapping[str, PlayerSpec], strategies: Mapping[str, Strategy], config: TrainConfig, methods: tuple[str, ...]
) -> dict[str, EMA | None]:
    """Wrap every model and start its moving average; ``methods`` of the generator are called beside its forward."""
    averages: dict[str, EMA | None] = {}
    for name, spec in specs.items():
        build = partial(build_optimizer, spec.optim, capturable=config.capture)
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
    """The players of a run that stands at ``state``, by name."""
    return {
        name: Player(
            name=name,
            strategy=strategies[name],
            config=config,
            optim=spec.optim,
            guard=_guard(spec, strategies[name], state, config),
            ema=averages[name],
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
    """The name of a player's number in the metrics: the generator's is the plain one."""
    return what if player == GENERATOR else f"{player}_{what}"
