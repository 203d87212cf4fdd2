"""Copies of tensors in host memory, from which a checkpoint is written while training continues."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def copy_to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to host memory, sharded as the originals; the copies are complete on return.

    From a GPU all copies are queued at once, into pinned memory, and waited for once. PyTorch caches that memory for
    the next snapshot; it stays pinned until the process ends.
    """
    copies = {name: _start_copy(tensor.detach()) for name, tensor in tensors.items()}
    if any(map(_is_on_gpu, tensors.values())):
        arrived = torch.cuda.Event()
        arrived.record()
        arrived.synchronize()
    return copies


def _start_copy(tensor: Tensor) -> Tensor:
    local = _local(tensor)
    copy = torch.empty_like(local, device="cpu", pin_memory=_is_on_gpu(local))
    copy.copy_(local, non_blocking=True)
    if not isinstance(tensor, DTensor):
        return copy
    # DTensor.from_local would move the copy back to the device of the mesh.
    names, description = tensor.__tensor_flatten__()
    parts = {name: copy if name == "_local_tensor" else getattr(tensor, name) for name in names}
    sharded: Tensor = DTensor.__tensor_unflatten__(parts, description, tensor.shape, tensor.stride())
    return sharded


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _is_on_gpu(tensor: Tensor) -> bool:
    return _local(tensor).device.type == "cuda"
