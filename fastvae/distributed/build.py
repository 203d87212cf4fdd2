"""Which strategy a run uses."""

from __future__ import annotations

from fastvae.distributed.ddp import DDPStrategy
from fastvae.distributed.single import SingleStrategy
from fastvae.distributed.strategy import Strategy
from fastvae.distributed.world import World

STRATEGIES = ("auto", "single", "ddp")


def build_strategy(name: str, world: World) -> Strategy:
    """The strategy of that name; ``auto`` is ``single`` for one process and ``ddp`` for more."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}")
    if name == "single" or (name == "auto" and world.world_size == 1):
        return SingleStrategy(world)
    return DDPStrategy(world)
