"""Asynchronous copies from host memory to a GPU: many tensors as one pinned copy on a separate stream."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

_ALIGNMENT = 256  # bytes: wide loads need 16, whole cache lines 128


@dataclass(frozen=True)
class Layout:
    """Layout of tensors in one buffer of bytes."""

    places: tuple[tuple[int, int, torch.dtype, torch.Size], ...]
    """Start and end in bytes, dtype and shape of each tensor."""
    num_bytes: int
    """Size of the buffer."""

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Layout:
        """Lay out tensors one after the other, each aligned to 256 bytes."""
        places, first = [], 0
        for tensor in tensors:
            stop = first + tensor.numel() * tensor.element_size()
            places.append((first, stop, tensor.dtype, tensor.shape))
            first = math.ceil(stop / _ALIGNMENT) * _ALIGNMENT
        return cls(tuple(places), first)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Return the tensors in ``buffer``, uint8 ``[num_bytes]``; they share its memory."""
        return [buffer[first:stop].view(dtype).view(shape) for first, stop, dtype, shape in self.places]


class Copies(Protocol):
    """Copies of tensors to a device."""

    def send(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Start to copy tensors in host memory, which may be changed once this returns.

        Returns:
            A function that returns the copies, to be called once: work that is then queued on the current stream waits
            for them.
        """


class PinnedCopies:
    """Copies to a GPU on a separate stream, concurrent with its computation; the host never waits."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def send(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        layout = Layout.of(tensors)
        # PyTorch caches pinned memory, and reuses it only when the copy from it is complete.
        staging = torch.empty(layout.num_bytes, dtype=torch.uint8, pin_memory=True)
        for place, tensor in zip(layout.views(staging), tensors, strict=True):
            place.copy_(tensor)
        with torch.cuda.stream(self._stream):
            copy = staging.to(self._device, non_blocking=True)
        arrived = self._stream.record_event()

        def receive() -> list[Tensor]:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(arrived)
            copy.record_stream(current)  # its memory belongs to the other stream, which must not reuse it too early
            return layout.views(copy)

        return receive


def tensors_in(value: Any) -> list[Tensor]:
    """Return the dense tensors in the order of `each_tensor`."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    each_tensor(value, keep)
    return found


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Map every dense tensor in a tensor, record, tuple, list or mapping, in a fixed order.

    Raises:
        TypeError: it contains something else that would have to be moved to a device.
    """
    if isinstance(value, Tensor):
        if value.layout == torch.sparse_csr:
            crow, columns, values = map(change, (value.crow_indices(), value.col_indices(), value.values()))
            return csr(crow, columns, values, value.shape[1])
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: each_tensor(getattr(value, f.name), change) for f in fields(value)})
    if isinstance(value, tuple | list):
        items = [each_tensor(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)  # a named tuple's names
    if isinstance(value, Mapping):
        return {name: each_tensor(item, change) for name, item in value.items()}
    if hasattr(value, "to"):
        raise TypeError(
            f"data: raw examples must be a tensor or a dataclass of tensors, to be copied to a GPU ahead of time, got "
            f"{type(value).__name__}; make it a dataclass"
        )
    return value


def csr(crow: Tensor, columns: Tensor, values: Tensor, num_columns: int) -> Tensor:
    """A ``torch.sparse_csr`` tensor [B, V] from offsets int64 [B + 1], columns int64 [N] and values [N]."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        size = (len(crow) - 1, num_columns)
        return torch.sparse_csr_tensor(crow, columns, values, size, check_invariants=False)
