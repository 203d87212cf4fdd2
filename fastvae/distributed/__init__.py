"""How processes cooperate. Nothing here knows about VAEs."""

from fastvae.distributed.build import STRATEGIES, build_strategy
from fastvae.distributed.strategy import StepReport, Strategy
from fastvae.distributed.world import World, enter_world, world_from_environment

__all__ = [
    "STRATEGIES",
    "StepReport",
    "Strategy",
    "World",
    "build_strategy",
    "enter_world",
    "world_from_environment",
]
