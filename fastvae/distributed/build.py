"""Which strategy a run uses."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.distributed as dist

from fastvae.distributed.config import DDPConfig, FSDPConfig
from fastvae.distributed.ddp import DDPStrategy
from fastvae.distributed.deepspeed import DeepSpeedStrategy, import_deepspeed
from fastvae.distributed.deepspeed_settings import DeepSpeedConfig, engine_settings
from fastvae.distributed.fsdp import FSDPStrategy
from fastvae.distributed.single import SingleStrategy
from fastvae.distributed.strategy import Strategy
from fastvae.distributed.world import World
from fastvae.distributed.zero import ZeROStrategy

STRATEGIES = ("auto", "single", "ddp", "fsdp", "deepspeed")


@dataclass(frozen=True, kw_only=True)
class StrategyOptions:
    """What the strategies can be told; each reads its own part."""

    precision: str = "fp32"
    accumulation: int = 1
    max_grad_norm: float | None = None
    ddp: DDPConfig = field(default_factory=DDPConfig)
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)


def build_strategy(name: str, world: World, options: StrategyOptions | None = None) -> Strategy:
    """The strategy of that name; ``auto`` is ``single`` for one process and ``ddp`` for more.

    Raises:
        ValueError: there is no such strategy, or it does not fit this world.
    """
    options = options if options is not None else StrategyOptions()
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}")
    if name == "fsdp":
        return FSDPStrategy(world, options.fsdp, options.precision)
    if name == "deepspeed":
        return _build_deepspeed(world, options)
    if name == "single" or (name == "auto" and world.world_size == 1):
        return SingleStrategy(world)
    return DDPStrategy(world, options.ddp)


def _build_deepspeed(world: World, options: StrategyOptions) -> DeepSpeedStrategy:
    """The strategy of the stage that the settings ask for."""
    if not dist.is_initialized():
        raise ValueError("strategy deepspeed needs a launcher: start with torchrun or deepspeed, or use single")
    settings = engine_settings(
        options.deepspeed, precision=options.precision, accumulation=options.accumulation, clip=options.max_grad_norm
    )
    kind = ZeROStrategy if settings["zero_optimization"]["stage"] else DeepSpeedStrategy
    return kind(world, settings, import_deepspeed(world))
