"""The protocol that every way of cooperating honours, and what one process and DDP have in common."""

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
# From the norm of the global batch's gradient, []: may this step change the parameters, [] bool, alike on all ranks?
Accept = Callable[[Tensor], Tensor]

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one optimizer step did; tensors on the device, so that reading them is the caller's choice."""

    grad_norm: Tensor  # [] 2-norm of the global batch's gradient, before clipping
    skipped: Tensor  # [] bool: parameters were left as they were, on every rank

    @property
    def finite(self) -> Tensor:
        """[] bool: the norm is neither NaN nor infinite."""
        return torch.isfinite(self.grad_norm)


class Strategy(Protocol):
    """One way for processes to train one model together.

    The gradient of a global batch is the average over ranks of each rank's gradient, so a rank backs
    ``sum(local losses) * world_size / global_batch_size`` (see ``train.step``).
    """

    name: str
    world: World
    module: nn.Module  # what the training step calls
    trained: nn.Module  # the same without the outermost wrapper: its parameters are those that the optimizer updates
    model: nn.Module  # what the user gave; the trained one itself, or whole and up to date inside whole_model()
    optimizer: torch.optim.Optimizer

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        """Move and wrap the model, then make its optimizer: sharded parameters exist only after wrapping.

        ``methods`` are those that are called on ``trained``, but for its forward: they need whole parameters too.
        """

    def accumulate(self, last: bool) -> AbstractContextManager[object]:
        """Wraps forward and backward of one micro-batch; gradients cross ranks with the last one only."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar loss to what this step has gathered."""

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """While the block runs, parameters take no gradient; gives the module to call in it.

        For the backward of another model whose loss goes through this one: gradients reach the inputs, those of the
        parameters are neither computed nor exchanged, and what this step has gathered stays as it is. Both the forward
        and the backward belong inside the block.
        """

    def step(self, max_grad_norm: float | None, accept: Accept | None = None) -> StepReport:
        """Clip, update, and clear the gradients, or leave the parameters alone on all ranks together.

        ``accept`` decides which of the two; None accepts every gradient that is finite.
        """

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, as a new tensor on every rank."""

    def full_precision_parameters(self) -> dict[str, Tensor]:
        """The float32 parameters by name, as the optimizer updates them; this rank's shares where they are sharded."""

    def whole_model(self) -> AbstractContextManager[nn.Module]:
        """The user's model with the trained weights, plain and whole on every rank; entered by all ranks together.

        Inside, ranks may call it as often as each likes. Writing to it trains nothing.
        """

    def check_replicas(self) -> None:
        """Raise RuntimeError if ranks that should hold equal parameters do not; called by all ranks together."""

    def close(self) -> None:
        """Let go of everything that holds the process group, before it is destroyed; the model itself stays usable."""

    def snapshot(self, averages: Mapping[str, Tensor], replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy, in the host's memory, of weights, optimizer state and the arguments: what ``write_tensors`` is given.

        Called by all ranks together. What training does to the originals later does not show in it.

        Args:
            averages: by the names of parameters, and sharded as ``full_precision_parameters`` are.
            replicated: any other tensors, whole and equal on all ranks.
        """

    def load(
        self, directory: Path, averages: Mapping[str, Tensor], replicated: Mapping[str, Tensor], prefix: str = ""
    ) -> None:
        """Set weights, optimizer state and the tensors of the arguments, in place, to what a snapshot held.

        Called by all ranks together. Only tensors whose names start with ``prefix`` are read, without it.

        Raises:
            ValueError: the directory holds other tensors than this run; nothing was changed.
        """


class TorchStrategy(ABC):
    """What strategies share whose optimizer is PyTorch's own: the step, and checkpoints by parameter name."""

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
        # The module without its outermost wrapper: DDP's and DeepSpeed's would prepare for a backward of their own.
        learning = [parameter for parameter in self._leaves() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield self.trained
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)

    def _leaves(self) -> list[nn.Parameter]:
        """Every tensor that may collect the gradient of a parameter."""
        return list(self.trained.parameters())

    def step(self, max_grad_norm: float | None, accept: Accept | None = None) -> StepReport:
        grad_norm = self._clip(max_grad_norm)
        skipped = torch.logical_not((accept or torch.isfinite)(grad_norm))
        # After the all-reduce every rank has the same norm, so all ranks decide alike without a message.
        if grad_norm.device.type != "cpu":
            # A fused optimizer reads this flag on the device and leaves parameters, moments and step counts alone where
            # it is 1: no host sync.
            self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif not skipped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepReport(grad_norm=grad_norm, skipped=skipped)

    @abstractmethod
    def _clip(self, max_grad_norm: float | None) -> Tensor:
        """Clip the gradient; returns its norm before that, the same on all ranks."""

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        if self.world.world_size > 1:
            dist.all_reduce(total)
        return total

    def _optimizer_values(self) -> dict[str, Any]:
        """The optimizer's state by parameter name: tensors, and hyper-parameters as plain values."""
        return dict(get_optimizer_state_dict(self.trained, self.optimizer, options=_FLAT))

    def _tensors(self, averages: Mapping[str, Tensor], replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        optimizer = self._optimizer_values().items()
        return {
            **{f"model.{name}": tensor for name, tensor in self.trained.state_dict().items()},
            # A learning rate may be a tensor too, but hyper-parameters are the configuration's.
            **{
                f"optimizer.{name}": value
                for name, value in optimizer
                if name.startswith("state.") and isinstance(value, Tensor)
            },
            **{f"averages.{name}": tensor for name, tensor in averages.items()},
            **{f"replicated.{name}": tensor for name, tensor in replicated.items()},
        }

    def snapshot(self, averages: Mapping[str, Tensor], replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return copy_to_host(self._tensors(averages, replicated))

    def load(
        self, directory: Path, averages: Mapping[str, Tensor], replicated: Mapping[str, Tensor], prefix: str = ""
    ) -> None:
        tensors = self._tensors(averages, replicated)
        read_tensors(directory, tensors, self.world, prefix)
        # All but the optimizer's state was filled in place. Hyper-parameters stay those of this run's configuration.
        values = self._optimizer_values()
        values |= {name: tensors[f"optimizer.{name}"] for name in values if f"optimizer.{name}" in tensors}
        set_optimizer_state_dict(self.trained, self.optimizer, values, options=_FLAT)


class ReplicatedStrategy(TorchStrategy):
    """Every rank holds all parameters: one process, or many whose gradients are averaged."""

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
