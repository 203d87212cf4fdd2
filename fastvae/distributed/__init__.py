"""Distributed training. This package does not depend on VAEs."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.distributed.config import DDPConfig, FSDPConfig, StrategyOptions
    from fastvae.distributed.deepspeed_settings import DeepSpeedConfig
    from fastvae.distributed.kinds import (
        STRATEGIES,
        StrategyKind,
        StrategyName,
        build_strategy,
        find_strategy,
    )
    from fastvae.distributed.peers.failure import Failure, PeerFailed, is_peer_error
    from fastvae.distributed.rounds import Rounds, enter_rounds
    from fastvae.distributed.side_group import SideGroup
    from fastvae.distributed.strategy import StepReport, Strategy
    from fastvae.distributed.tensors import read_whole, write_tensors
    from fastvae.distributed.world import World, enter_world, world_from_environment

__all__ = [
    "STRATEGIES",
    "DDPConfig",
    "DeepSpeedConfig",
    "FSDPConfig",
    "Failure",
    "PeerFailed",
    "Rounds",
    "SideGroup",
    "StepReport",
    "Strategy",
    "StrategyKind",
    "StrategyName",
    "StrategyOptions",
    "World",
    "build_strategy",
    "enter_rounds",
    "enter_world",
    "find_strategy",
    "is_peer_error",
    "read_whole",
    "world_from_environment",
    "write_tensors",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": ("DDPConfig", "FSDPConfig", "StrategyOptions"),
        "deepspeed_settings": ("DeepSpeedConfig",),
        "peers.failure": ("Failure", "PeerFailed", "is_peer_error"),
        "kinds": ("STRATEGIES", "StrategyKind", "StrategyName", "build_strategy", "find_strategy"),
        "rounds": ("Rounds", "enter_rounds"),
        "side_group": ("SideGroup",),
        "strategy": ("StepReport", "Strategy"),
        "tensors": ("read_whole", "write_tensors"),
        "world": ("World", "enter_world", "world_from_environment"),
    },
)
