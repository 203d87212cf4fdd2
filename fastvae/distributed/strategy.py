"""The protocol of all strategies, and the common parts of one process and DDP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from fastvae.distributed.replicas import compare_replicas
from fastvae.distributed.snapshot import copy_to_host
from fastvae.distributed.tensors import read_tensors
from fastvae.distributed.world import World

BuildOptimizer = Callable[[Iterable[tuple[str, nn.Parameter]]], torch.optim.Optimizer]
# From the norm of the global batch's gradient, []: may this step change the parameters, [] bool, equal on all ranks?
Accept = Callable[[Tensor], Tensor]
# Tensors by the name of a copy, as in a checkpoint, and by parameter.
Copies = Mapping[str, Mapping[str, Tensor]]

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Result of one optimizer step; tensors on the device, so that the caller decides when to synchronise."""

    grad_norm: Tensor  # [] 2-norm of the global batch's gradient, before clipping
    skipped: Tensor  # [] bool: the parameters were not changed, on every rank

    @property
    def finite(self) -> Tensor:
        """[] bool: the norm is neither NaN nor infinite."""
        return torch.isfinite(self.grad_norm)


class Strategy(Protocol):
    """A method by which processes train one model together.

    The gradient of a global batch is the average over ranks of each rank's gradient, so a rank computes the gradient of
    ``sum(local losses) * world_size / global_batch_size`` (see ``train.step``).
    """

    name: str
    world: World
    module: nn.Module  # what the training step calls
    trained: nn.Module  # the same without the outermost wrapper: its parameters are those that the optimizer updates
    model: nn.Module  # what the user gave; the trained one itself, or whole and up to date inside whole_model()
    optimizer: torch.optim.Optimizer

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        """Move and wrap the model, then build its optimizer: sharded parameters exist only after wrapping.

        ``methods`` are called on ``trained`` besides forward: they require whole parameters too.
        """

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        """Context of forward and backward of one micro-batch; gradients are reduced with the last one only."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a scalar loss."""

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """Inside the block, parameters receive no gradient; yields the module to call.

        For the backward of another model whose loss depends on this one: gradients reach the inputs, those of the
        parameters are neither computed nor reduced, and gradients that this step has accumulated do not change. Both
        the forward and the backward must be inside the block.
        """

    def step(self, max_grad_norm: float | None, accept: Accept | None = None) -> StepReport:
        """Clip, update, and clear the gradients, or skip the step, on all ranks together.

        ``accept`` decides whether to skip; None accepts every finite gradient.
        """

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks, as a new tensor on every rank."""

    def full_precision_parameters(self) -> dict[str, Tensor]:
        """Return the float32 parameters that the optimizer updates by name; this rank's shards if they are sharded."""

    def whole_model(self) -> AbstractContextManager[nn.Module]:
        """Context with the user's unwrapped model and the trained weights on every rank; entered by all together.

        Ranks may call it independently inside the block. Changes of it do not affect training.
        """

    def check_replicas(self) -> None:
        """Raise RuntimeError if ranks that should hold equal parameters do not; called by all ranks together."""

    def close(self) -> None:
        """Release all references to the process group before it is destroyed; the model stays usable."""

    def snapshot(self, copies: Copies, replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy weights, optimizer state and the arguments to host memory, for ``write_tensors``.

        Called by all ranks together. Later training does not change the copy.

        Args:
            copies: further values of parameters, such as moving averages: by the name of the copy and that of the
                parameter, sharded as ``full_precision_parameters``.
            replicated: any other tensors, whole and equal on all ranks.
        """

    def load(self, directory: Path, copies: Copies, replicated: Mapping[str, Tensor], prefix: str = "") -> None:
        """Set weights, optimizer state and the tensors of the arguments, in place, to those of a snapshot.

        Called by all ranks together. Only tensors whose names start with ``prefix`` are read, without it.

        Raises:
            ValueError: the tensors of the directory differ from this run's; nothing was changed.
        """


class TorchStrategy(ABC):
    """Common part of strategies with PyTorch's own optimizer: the step, and checkpoints by parameter name."""

    name = "torch"
    world: World
    module: nn.Module
    trained: nn.Module
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, world: World) -> None:
        self.world = world

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        # The module without its outermost wrapper: DDP's and DeepSpeed's would prepare for their own backward.
        learning = [parameter for parameter in self._leaves() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield self.trained
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)

    def _leaves(self) -> list[nn.Parameter]:
        """Return every tensor that may accumulate the gradient of a parameter."""
        return list(self.trained.parameters())

    def step(self, max_grad_norm: float | None, accept: Accept | None = None) -> StepReport:
        grad_norm = self._clip(max_grad_norm)
        skipped = torch.logical_not((accept or torch.isfinite)(grad_norm))
        # After the all-reduce every rank has the same norm, so all ranks decide in the same way without communication.
        if grad_norm.device.type != "cpu" and all(group.get("fused") for group in self.optimizer.param_groups):
            # A fused optimizer reads this flag on the device and does not change parameters, moments and step counts
            # if it is 1: no synchronisation with the host, unlike with other optimizers.
            self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif not skipped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepReport(grad_norm=grad_norm, skipped=skipped)

    @abstractmethod
    def _clip(self, max_grad_norm: float | None) -> Tensor:
        """Clip the gradient; return its norm before clipping, the same on all ranks."""

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        if self.world.world_size > 1:
            dist.all_reduce(total)
        return total

    def _optimizer_values(self) -> dict[str, Any]:
        """Return the optimizer's state by parameter name: tensors, and hyper-parameters as plain values."""
        return dict(get_optimizer_state_dict(self.trained, self.optimizer, options=_FLAT))

    def _tensors(self, copies: Copies, replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        optimizer = self._optimizer_values().items()
        return {
            **{f"model.{name}": tensor for name, tensor in self.trained.state_dict().items()},
            # A learning rate may be a tensor too, but hyper-parameters are the configuration's.
            **{
                f"optimizer.{name}": value
                for name, value in optimizer
                if name.startswith("state.") and isinstance(value, Tensor)
            },
            **{f"{group}.{name}": tensor for group, values in copies.items() for name, tensor in values.items()},
            **{f"replicated.{name}": tensor for name, tensor in replicated.items()},
        }

    def snapshot(self, copies: Copies, replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return copy_to_host(self._tensors(copies, replicated))

    def load(self, directory: Path, copies: Copies, replicated: Mapping[str, Tensor], prefix: str = "") -> None:
        tensors = self._tensors(copies, replicated)
        read_tensors(directory, tensors, self.world, prefix)
        # All but the optimizer's state was filled in place. Hyper-parameters stay those of this run's configuration.
        values = self._optimizer_values()
        values |= {name: tensors[f"optimizer.{name}"] for name in values if f"optimizer.{name}" in tensors}
        set_optimizer_state_dict(self.trained, self.optimizer, values, options=_FLAT)


class ReplicatedStrategy(TorchStrategy):
    """Every rank has all parameters: one process, or several whose gradients are averaged."""

    def _clip(self, max_grad_norm: float | None) -> Tensor:
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        grad_norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, grad_norm)
        return grad_norm.detach()

    def full_precision_parameters(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def whole_model(self) -> AbstractContextManager[nn.Module]:
        return nullcontext(self.model)

    def check_replicas(self) -> None:
        compare_replicas(self.full_precision_parameters(), self.world)
