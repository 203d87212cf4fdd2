"""DeepSpeed's engine. The package is imported in this file only, and only if a run uses it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastvae.distributed.replicas import broadcast_from_first
from fastvae.distributed.strategy import Accept, BuildOptimizer, ReplicatedStrategy, StepReport
from fastvae.distributed.world import World


def import_deepspeed(world: World) -> Any:
    """Import the package, with the accelerator of this world selected.

    Raises:
        ValueError: DeepSpeed, or on CPUs the compiler it needs, is not installed.
    """
    if world.device.type == "cpu":
        if shutil.which(os.environ.get("CXX", "c++")) is None:
            raise ValueError(
                "strategy deepspeed: on CPUs DeepSpeed compiles a part of itself at its first start, and no C++ "
                "compiler was found (c++ on PATH, or the one that CXX names): install g++, or use --train.strategy fsdp"
            )
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ModuleNotFoundError as error:
        raise ValueError(f"strategy deepspeed: {error.name} is not installed: pip install fastvae[deepspeed]") from None
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    return deepspeed


class DeepSpeedStrategy(ReplicatedStrategy):
    """Stage 0: replicas whose gradients DeepSpeed averages. Clipping and skipping are fastvae's, as with DDP."""

    name = "deepspeed"

    def __init__(self, world: World, settings: dict[str, Any], deepspeed: Any) -> None:
        super().__init__(world)
        self._settings, self._deepspeed = settings, deepspeed
        self._engine: Any = None

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        self.model = model.to(self.world.device)
        self._start(self.model, build_optimizer, {**self._settings, "gradient_clipping": 0.0})

    def _start(self, model: nn.Module, build_optimizer: BuildOptimizer, settings: dict[str, Any]) -> None:
        broadcast_from_first(model)
        self.trained = model
        self.optimizer = build_optimizer(model.named_parameters())
        # The weights are equal already. The engine would broadcast them again, which fails (0.19.8) on a parameter
        # without a dimension; it skips parameters with this attribute.
        scalars = [parameter for parameter in model.parameters() if parameter.dim() == 0]
        for parameter in scalars:
            parameter.ds_optim_param = True  # type: ignore[attr-defined]
        self._engine, *_ = self._deepspeed.initialize(
            model=model, optimizer=self.optimizer, config=settings, dist_init_required=False
        )
        for parameter in scalars:
            del parameter.ds_optim_param  # type: ignore[attr-defined]
        self.module = self._engine

    @contextmanager
    def accumulate(self, last: bool) -> Iterator[None]:
        self._engine.set_gradient_accumulation_boundary(last)
        yield
        if not last:
            self._engine.step()  # counts the micro-batch, updates nothing

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss, scale_wrt_gas=False)  # the loss is already scaled to the mean of the global batch

    def step(self, max_grad_norm: float | None, accept: Accept | None = None) -> StepReport:
        grad_norm = self._clip(max_grad_norm)
        skipped = torch.logical_not((accept or torch.isfinite)(grad_norm))
        self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
        self._engine.step()
        return StepReport(grad_norm=grad_norm, skipped=skipped)

    def close(self) -> None:
        if self._engine is not None:
            self.module = self.trained = self.model
            self._engine.destroy()
            self._engine = None
