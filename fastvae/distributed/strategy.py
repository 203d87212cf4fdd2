"""The protocol that every way of cooperating honours, and what one process and DDP have in common."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from fastvae.distributed.world import World

BuildOptimizer = Callable[[Iterable[tuple[str, nn.Parameter]]], torch.optim.Optimizer]

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one optimizer step did; tensors on the device, so that reading them is the caller's choice."""

    grad_norm: Tensor  # [] 2-norm of the global batch's gradient, before clipping
    finite: Tensor  # [] bool: the norm is neither NaN nor infinite
    skipped: Tensor  # [] bool: parameters were left as they were, on every rank


class Strategy(Protocol):
    """One way for processes to train one model together.

    The gradient of a global batch is the average over ranks of each rank's gradient, so a rank backs
    ``sum(local losses) * world_size / global_batch_size`` (see ``train.step``).
    """

    name: str
    world: World
    module: nn.Module  # what the training step calls
    model: nn.Module  # what the user gave, unwrapped
    optimizer: torch.optim.Optimizer

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer) -> None:
        """Move and wrap the model, then make its optimizer: sharded parameters exist only after wrapping."""

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        """Wraps forward and backward of one micro-batch; gradients cross ranks with the last one only."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar loss to what this step has gathered."""

    def step(self, max_grad_norm: float | None) -> StepReport:
        """Clip, update, and clear the gradients. A gradient that is not finite is skipped on all ranks together."""

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, as a new tensor on every rank."""

    def full_precision_parameters(self) -> dict[str, Tensor]:
        """The float32 parameters by name, as the optimizer updates them."""

    def close(self) -> None:
        """Let go of everything that holds the process group, before it is destroyed; the model itself stays usable."""

    def save(self, directory: Path, extra: Mapping[str, Tensor]) -> None:
        """Write weights, optimizer state and ``extra`` as safetensors files; called by all ranks together."""

    def load(self, directory: Path, extra: Mapping[str, Tensor]) -> None:
        """Read back what ``save`` wrote, into place; called by all ranks together."""


@contextmanager
def _alone_on_purpose() -> Iterator[None]:
    """A single process saves and loads without a process group; PyTorch's warning that it does so is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield


class ReplicatedStrategy:
    """Every rank holds all parameters: one process, or many whose gradients are averaged."""

    name = "replicated"
    module: nn.Module
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, world: World) -> None:
        self.world = world

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, max_grad_norm: float | None) -> StepReport:
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        grad_norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = torch.isfinite(grad_norm)
        if max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, grad_norm)
        # A fused optimizer reads this flag on the device and leaves parameters, moments and step counts alone where it
        # is 1. After the all-reduce every rank has the same gradient, so all ranks decide alike without a message.
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepReport(grad_norm=grad_norm.detach(), finite=finite, skipped=~finite)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        if self.world.world_size > 1:
            dist.all_reduce(total)
        return total

    def full_precision_parameters(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def _optimizer_values(self) -> dict[str, Any]:
        """The optimizer's state by parameter name: tensors, and hyper-parameters as plain values."""
        return dict(get_optimizer_state_dict(self.model, self.optimizer, options=_FLAT))

    def _tensors(self, extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
        optimizer = self._optimizer_values().items()
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"optimizer.{name}": value for name, value in optimizer if isinstance(value, Tensor)},
            **{f"extra.{name}": tensor for name, tensor in extra.items()},
        }

    def save(self, directory: Path, extra: Mapping[str, Tensor]) -> None:
        writer = dcp.HuggingFaceStorageWriter(str(directory), save_distributed=True)
        with _alone_on_purpose():
            dcp.save(self._tensors(extra), storage_writer=writer, no_dist=self.world.world_size == 1)

    def load(self, directory: Path, extra: Mapping[str, Tensor]) -> None:
        tensors = self._tensors(extra)
        reader = dcp.HuggingFaceStorageReader(str(directory))
        with _alone_on_purpose():
            dcp.load(tensors, storage_reader=reader, no_dist=self.world.world_size == 1)
        # Model and extra tensors were filled in place. Hyper-parameters stay those of this run's configuration.
        values = self._optimizer_values()
        values |= {name: tensors[f"optimizer.{name}"] for name in values if f"optimizer.{name}" in tensors}
        set_optimizer_state_dict(self.model, self.optimizer, values, options=_FLAT)
