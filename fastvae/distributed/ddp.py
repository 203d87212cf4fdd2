"""PyTorch's DistributedDataParallel: every rank holds the whole model, gradients are averaged in buckets."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from fastvae.distributed.config import DDPConfig
from fastvae.distributed.strategy import BuildOptimizer, ReplicatedStrategy
from fastvae.distributed.world import World


class DDPStrategy(ReplicatedStrategy):
    """One replica per rank; with accumulation, gradients are reduced once per step."""

    name = "ddp"

    def __init__(self, world: World, config: DDPConfig | None = None) -> None:
        if not dist.is_initialized():
            raise ValueError("strategy ddp requires two or more processes: start with torchrun, or use single")
        super().__init__(world)
        self._config = config if config is not None else DDPConfig()
        self._replica: DistributedDataParallel | None = None

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        self.model = self.trained = model.to(self.world.device)
        self.module = self._replica = DistributedDataParallel(
            self.model,
            bucket_cap_mb=self._config.bucket_mib,
            gradient_as_bucket_view=True,
            static_graph=self._config.static_graph,
        )
        if self._config.compress_gradients:
            self._replica.register_comm_hook(None, _send_bf16)
        self.optimizer = build_optimizer(self.model.named_parameters())

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last or self._replica is None else self._replica.no_sync()

    def close(self) -> None:
        # DDP's C++ reducer owns the process group too. If it is destroyed last, the group's destructor joins the gloo
        # threads while it holds the GIL, and a thread that still has a tensor to release waits for the GIL: a deadlock,
        # seen with torch 2.13 on a busy machine. Without the reducer the group is destroyed with the GIL released.
        if self._replica is not None:
            self.module = self.model
            for owner in ("reducer", "logger"):
                self._replica.__dict__.pop(owner, None)
            self._replica = None


def _send_bf16(group: dist.ProcessGroup | None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """PyTorch's hook under another name: DDP rejects the original by its name without NCCL, although gloo works.

    DDP reads the annotations as types, so this file must not turn them into text.
    """
    return bf16_compress_hook(group, bucket)  # type: ignore[arg-type]
