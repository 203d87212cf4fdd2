"""PyTorch's DistributedDataParallel: every rank holds the whole model, gradients are averaged in buckets."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastvae.distributed.strategy import BuildOptimizer, ReplicatedStrategy
from fastvae.distributed.world import World


class DDPStrategy(ReplicatedStrategy):
    """One replica a rank; under accumulation gradients are exchanged once a step."""

    name = "ddp"

    def __init__(self, world: World) -> None:
        if world.world_size < 2:
            raise ValueError("strategy ddp is for two or more processes: start with torchrun, or use single")
        super().__init__(world)

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer) -> None:
        self.model = model.to(self.world.device)
        self.module = self._replica = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        self.optimizer = build_optimizer(self.model.named_parameters())

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._replica.no_sync()
