"""Replicas: parameters that every rank holds, equal bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastvae.distributed.world import World

_CHECKSUM_BYTES = 2**22  # of a parameter that are summed at a time: 100 MiB of temporaries


def broadcast_from_first(model: nn.Module) -> None:
    """Broadcast the parameters and buffers of rank 0."""
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, src=0)


def compare_replicas(parameters: Mapping[str, Tensor], world: World) -> None:
    """Compare a checksum of every parameter's bits over the ranks.

    Raises:
        RuntimeError: on all ranks, naming the parameters that differ.
    """
    if world.world_size == 1 or not parameters:
        return
    lowest = torch.stack([checksum(parameter) for parameter in parameters.values()])
    highest = lowest.clone()
    dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    differing = [name for name, equal in zip(parameters, (lowest == highest).tolist(), strict=True) if not equal]
    if differing:
        raise RuntimeError(
            f"check_replicas: {len(differing)} of {len(parameters)} parameters differ between ranks, the first is "
            f"{differing[0]}; resume from the newest checkpoint, and look for code that changes weights on one rank "
            "only"
        )


def checksum(tensor: Tensor) -> Tensor:
    """Return a weighted sum of the tensor's bytes, with a different weight per position, [] int64; it wraps.

    Computed in pieces, since it needs three int64 per byte.
    """
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    first = 0
    for piece in tensor.contiguous().flatten().view(torch.uint8).split(_CHECKSUM_BYTES):
        places = torch.arange(first, first + len(piece), device=piece.device)
        total += (piece.to(torch.int64) * (places * 2 + 1)).sum()
        first += len(piece)
    return total
