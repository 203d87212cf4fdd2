"""One process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from torch import nn

from fastvae.distributed.strategy import BuildOptimizer, ReplicatedStrategy
from fastvae.distributed.world import World


class SingleStrategy(ReplicatedStrategy):
    """One process, no communication."""

    name = "single"

    def __init__(self, world: World) -> None:
        if world.world_size != 1:
            raise ValueError(
                f"strategy single is for one process, got world size {world.world_size}: use ddp, or start one process"
            )
        super().__init__(world)

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        self.model = self.trained = self.module = model.to(self.world.device)
        self.optimizer = build_optimizer(self.model.named_parameters())

    def accumulate(self, last: bool) -> nullcontext[None]:
        return nullcontext()

    def close(self) -> None:
        pass
