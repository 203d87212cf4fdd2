"""The strategies by name: how each is built, its settings, and unsupported options. This module does not import
PyTorch.

A new strategy is a file with a class that implements `fastvae.distributed.Strategy`, and an entry in `STRATEGIES`. One
with settings also has a class in `config.py`, a field of `StrategyOptions` there, and one of `TrainConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastvae.distributed.config import DDPConfig, FSDPConfig, StrategyOptions
from fastvae.distributed.deepspeed_settings import DeepSpeedConfig
from fastvae.settings import Settings

if TYPE_CHECKING:
    from fastvae.distributed.strategy import Strategy
    from fastvae.distributed.world import World

StrategyName = Literal["auto", "single", "ddp", "fsdp", "deepspeed"]


_ADAM = ("adamw", "adam")  # the optimizers whose state DeepSpeed shards and a CUDA graph captures
Refusals = Iterator[tuple[str, str]]  # an option, and the rule that it breaks


@dataclass(frozen=True, kw_only=True)
class StrategyKind:
    """The declaration of a strategy."""

    name: StrategyName
    """Name in ``--train.strategy``."""
    build: Callable[[World, StrategyOptions], Strategy]
    """Builds the strategy for this process; imports its file only when called."""
    config: type[Settings] | None
    """The class of its settings, or None."""
    refuse: Callable[[StrategyOptions], Refusals]
    """Yields the options that it does not support, each with the rule and the remedy."""


def _build_single(world: World, options: StrategyOptions) -> Strategy:
    from fastvae.distributed.single import SingleStrategy

    return SingleStrategy(world)


def _build_ddp(world: World, options: StrategyOptions) -> Strategy:
    from fastvae.distributed.ddp import DDPStrategy

    return DDPStrategy(world, options.ddp)


def _build_fsdp(world: World, options: StrategyOptions) -> Strategy:
    from fastvae.distributed.fsdp import FSDPStrategy

    return FSDPStrategy(world, options.fsdp, options.precision)


def _build_deepspeed(world: World, options: StrategyOptions) -> Strategy:
    from fastvae.distributed.zero import build_deepspeed

    return build_deepspeed(world, options)


def _build_auto(world: World, options: StrategyOptions) -> Strategy:
    return (_build_single if world.world_size == 1 else _build_ddp)(world, options)


def _refuse_in_single(options: StrategyOptions) -> Refusals:
    if options.capture and options.optimizer not in _ADAM:
        yield "capture", f"requires optimizer adamw or adam, got {options.optimizer}; set it to False"


def _refuse_capture(options: StrategyOptions) -> Refusals:
    if options.capture:
        yield "capture", "requires strategy single; set it to False"


def _refuse_static_graph(options: StrategyOptions) -> Refusals:
    if options.ddp.static_graph and options.accumulation > 1:
        yield "ddp.static_graph", f"requires accumulation 1, got {options.accumulation}; set it to False"
    if options.ddp.static_graph and options.num_players > 1:
        yield "ddp.static_graph", "does not support a task that trains two models; set it to False"


def _refuse_in_auto(options: StrategyOptions) -> Refusals:
    yield from _refuse_in_single(options)
    yield from _refuse_static_graph(options)


def _refuse_in_ddp(options: StrategyOptions) -> Refusals:
    yield from _refuse_capture(options)
    yield from _refuse_static_graph(options)


def _refuse_in_fsdp(options: StrategyOptions) -> Refusals:
    yield from _refuse_capture(options)
    if options.optimizer == "muon":
        yield "optimizer", "muon needs whole matrices, which strategy fsdp shards; choose another, or strategy ddp"


def _refuse_in_deepspeed(options: StrategyOptions) -> Refusals:
    yield from _refuse_capture(options)
    if options.optimizer not in _ADAM:
        yield (
            "optimizer",
            f"must be adamw or adam with strategy deepspeed, got {options.optimizer}; choose one, or strategy ddp",
        )
    if options.compile:
        yield "compile", "is not supported by strategy deepspeed; set it to False"
    if options.edits_optimizer_state:
        yield "edits_optimizer_state", "is not supported by strategy deepspeed; set it to 0"


STRATEGIES: dict[StrategyName, StrategyKind] = {
    kind.name: kind
    for kind in (
        StrategyKind(name="auto", build=_build_auto, config=DDPConfig, refuse=_refuse_in_auto),
        StrategyKind(name="single", build=_build_single, config=None, refuse=_refuse_in_single),
        StrategyKind(name="ddp", build=_build_ddp, config=DDPConfig, refuse=_refuse_in_ddp),
        StrategyKind(name="fsdp", build=_build_fsdp, config=FSDPConfig, refuse=_refuse_in_fsdp),
        StrategyKind(name="deepspeed", build=_build_deepspeed, config=DeepSpeedConfig, refuse=_refuse_in_deepspeed),
    )
}
"""Every strategy by name; ``auto`` is ``single`` for one process and ``ddp`` for more."""


def find_strategy(name: str) -> StrategyKind:
    """Return the declaration of a strategy.

    Raises:
        ValueError: the name is unknown.
    """
    for kind in STRATEGIES.values():
        if kind.name == name:
            return kind
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}")


def build_strategy(name: str, world: World, options: StrategyOptions | None = None) -> Strategy:
    """Build the strategy of that name.

    Raises:
        ValueError: the name is unknown, or the strategy does not support this world or an option.
    """
    kind, options = find_strategy(name), options if options is not None else StrategyOptions()
    for option, rule in kind.refuse(options):
        raise ValueError(f"train.{option} {rule}")
    return kind.build(world, options)
