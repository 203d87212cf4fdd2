"""How processes cooperate. Nothing here knows about VAEs."""

from fastvae.distributed.build import STRATEGIES, StrategyOptions, build_strategy
from fastvae.distributed.ddp import DDPConfig
from fastvae.distributed.deepspeed import DeepSpeedConfig
from fastvae.distributed.fsdp import FSDPConfig
from fastvae.distributed.strategy import StepReport, Strategy
from fastvae.distributed.world import World, enter_world, world_from_environment

__all__ = [
    "STRATEGIES",
    "DDPConfig",
    "DeepSpeedConfig",
    "FSDPConfig",
    "StepReport",
    "Strategy",
    "StrategyOptions",
    "World",
    "build_strategy",
    "enter_world",
    "world_from_environment",
]
