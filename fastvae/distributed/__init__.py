"""How processes cooperate. Nothing here knows about VAEs."""

from fastvae.distributed.build import STRATEGIES, StrategyOptions, build_strategy
from fastvae.distributed.ddp import DDPConfig
from fastvae.distributed.deepspeed_settings import DeepSpeedConfig
from fastvae.distributed.failure import Failure, PeerFailed
from fastvae.distributed.fsdp import FSDPConfig
from fastvae.distributed.side_group import SideGroup
from fastvae.distributed.strategy import StepReport, Strategy, read_whole, write_tensors
from fastvae.distributed.world import World, enter_world, world_from_environment

__all__ = [
    "STRATEGIES",
    "DDPConfig",
    "DeepSpeedConfig",
    "FSDPConfig",
    "Failure",
    "PeerFailed",
    "SideGroup",
    "StepReport",
    "Strategy",
    "StrategyOptions",
    "World",
    "build_strategy",
    "enter_world",
    "read_whole",
    "world_from_environment",
    "write_tensors",
]
