"""PyTorch's FSDP2: every rank stores a shard of each parameter, of its gradient and of its optimizer state."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from fastvae.distributed.config import FSDPConfig
from fastvae.distributed.replicas import broadcast_from_first, compare_replicas
from fastvae.distributed.strategy import BuildOptimizer, Copies, TorchStrategy
from fastvae.distributed.world import World


class FSDPStrategy(TorchStrategy):
    """Fully sharded data parallelism: blocks are sharded one by one, the remaining parameters as the root.

    A block is an element of an ``nn.Sequential`` or ``nn.ModuleList``. Parameters without a dimension cannot be split:
    they are replicated. The user's own model is never wrapped; it stays in host memory and gets the weights when they
    are needed as a whole (evaluation, the final files).
    """

    name = "fsdp"

    def __init__(self, world: World, config: FSDPConfig | None = None, precision: str = "fp32") -> None:
        if not dist.is_initialized():
            raise ValueError("strategy fsdp requires two or more processes: start with torchrun, or use single")
        super().__init__(world)
        self._config = config if config is not None else FSDPConfig()
        self._syncs = True  # whether the gradients of this micro-batch are reduced over ranks
        self._gathered: list[nn.Parameter] = []
        # Autocast decides the precision of the computation, as in every strategy; the policy only reduces the precision
        # of the all-gathers in forward to the same. Gradients are reduced in float32, and the root, whose parameters
        # are not in a block (such as a likelihood's log variance), stays float32.
        narrow = torch.bfloat16 if precision == "bf16" else None
        self._block_policy = MixedPrecisionPolicy(
            param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        self._root_policy = MixedPrecisionPolicy(cast_forward_inputs=False)

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        self.model = model
        sharded = copy.deepcopy(model).to(self.world.device)
        broadcast_from_first(sharded)
        self._unsplit = {name for name, parameter in sharded.named_parameters() if parameter.dim() == 0}
        self._root = self._shard(sharded)
        for method in methods:
            register_fsdp_forward_method(sharded, method)
        self.trained = self.module = sharded
        self.optimizer = build_optimizer(sharded.named_parameters())

    def _shard(self, model: nn.Module) -> FSDPModule:
        mesh: DeviceMesh = init_device_mesh(self.world.device.type, (self.world.world_size,))
        pin = self.world.device.type == "cuda"
        offload = CPUOffloadPolicy(pin_memory=pin) if self._config.cpu_offload else OffloadPolicy()
        reshard = self._config.reshard_after_forward
        whole = {parameter for name, parameter in model.named_parameters() if name in self._unsplit}
        for block in blocks(model):
            fully_shard(
                block,
                mesh=mesh,
                mp_policy=self._block_policy,
                offload_policy=offload,
                reshard_after_forward=reshard,
                ignored_params=whole,
            )
        return fully_shard(model, mesh=mesh, mp_policy=self._root_policy, offload_policy=offload, ignored_params=whole)

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        self._syncs = last
        self._root.set_requires_gradient_sync(last)
        return nullcontext()

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        # Gradients of earlier micro-batches in the gathered parameters stay there for their own backward.
        self._root.set_requires_gradient_sync(False)
        try:
            with super().frozen() as module:
                yield module
        finally:
            self._root.set_requires_gradient_sync(self._syncs)

    def _leaves(self) -> list[nn.Parameter]:
        """Return the shards, and the gathered parameters that replace them in forward and backward."""
        if not self._gathered:
            for module in self.trained.modules():
                if isinstance(module, FSDPModule):
                    module.unshard()
                    self._gathered += [p for p in module.parameters() if not isinstance(p, DTensor)]
                    module.reshard()
        return list(dict.fromkeys([*self.trained.parameters(), *self._gathered]))

    def _clip(self, max_grad_norm: float | None) -> Tensor:
        gradients = {name: p.grad for name, p in self.trained.named_parameters() if p.grad is not None}
        unsplit = [gradient for name, gradient in gradients.items() if name in self._unsplit]
        if unsplit:  # FSDP does not reduce these gradients: average them like the others
            mean = self.all_reduce_sum(torch.stack(unsplit)) / self.world.world_size
            for gradient, value in zip(unsplit, mean, strict=True):
                gradient.copy_(value)
        shares = [gradient.to_local() for gradient in gradients.values() if isinstance(gradient, DTensor)]
        square = self.all_reduce_sum(nn.utils.get_total_norm(shares).square())
        if unsplit:  # the norm of an empty list is a host value, whose copy would wait for the device
            square = square + nn.utils.get_total_norm(unsplit).to(square.device).square()
        grad_norm = square.sqrt()
        if max_grad_norm is not None:
            scale = (max_grad_norm / (grad_norm + 1e-6)).clamp(max=1.0)  # as in nn.utils.clip_grads_with_norm_
            for share in (*shares, *unsplit):
                share.mul_(scale.to(share.device))
        return grad_norm

    def full_precision_parameters(self) -> dict[str, Tensor]:
        return {name: _local(parameter.detach()) for name, parameter in self.trained.named_parameters()}

    @contextmanager
    def whole_model(self) -> Iterator[nn.Module]:
        home = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        self.model.to(self.world.device)
        own = self.model.state_dict()
        for name, tensor in self.trained.state_dict().items():
            own[name].copy_(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)
        try:
            yield self.model
        finally:
            self.model.to(home)

    def check_replicas(self) -> None:
        parameters = self.full_precision_parameters()
        compare_replicas({name: parameters[name] for name in parameters if name in self._unsplit}, self.world)

    def _tensors(self, copies: Copies, replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parameters = dict(self.trained.named_parameters())
        sharded = {
            group: {name: _as_sharded(share, parameters[name]) for name, share in values.items()}
            for group, values in copies.items()
        }
        return super()._tensors(sharded, replicated)

    def close(self) -> None:
        if hasattr(self, "_root"):
            self.module = self.trained = self.model
            self._gathered = []
            del self._root, self.optimizer


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the elements with parameters of the model's sequences, inner ones first."""
    sequences = [module for module in model.modules() if isinstance(module, nn.Sequential | nn.ModuleList)]
    elements = [element for sequence in reversed(sequences) for element in sequence]
    return [
        element
        for element in dict.fromkeys(elements)
        if not isinstance(element, nn.ModuleList) and any(parameter.dim() for parameter in element.parameters())
    ]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _as_sharded(share: Tensor, like: Tensor) -> Tensor:
    """Return a view of this rank's shard as part of a tensor that is sharded as ``like``."""
    if not isinstance(like, DTensor):
        return share
    return DTensor.from_local(
        share, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
