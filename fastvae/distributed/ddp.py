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
        self._replica: DistributedDataParallel | None = None

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer) -> None:
        self.model = model.to(self.world.device)
        self.module = self._replica = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        self.optimizer = build_optimizer(self.model.named_parameters())

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last or self._replica is None else self._replica.no_sync()

    def close(self) -> None:
        # DDP's C++ reducer owns the process group too. If it goes last, the group's destructor joins the gloo threads
        # while it holds the GIL, and a thread that still has a tensor to release waits for the GIL: a deadlock, seen
        # with torch 2.13 on a busy machine. Without the reducer the group is destroyed where the GIL is released.
        if self._replica is not None:
            self.module = self.model
            for owner in ("reducer", "logger"):
                self._replica.__dict__.pop(owner, None)
            self._replica = None
