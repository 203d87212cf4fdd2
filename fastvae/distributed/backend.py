"""Which library carries messages between GPUs, and how its process group is left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What carries the messages of a run, the same on all ranks."""

    name: str
    """nccl or gloo: of tensors on GPUs. Tensors in the host's memory always go over gloo."""
    reason: str
    """Why that one."""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"

    @property
    def of_each_device(self) -> str:
        """As ``torch.distributed.init_process_group`` takes it."""
        return "cpu:gloo,cuda:nccl" if self.name == "nccl" else "gloo"


def choose_backend(store: dist.Store, rank: int, world_size: int, device: torch.device) -> Backend:
    """NCCL where every rank computes on a GPU of its own, else gloo; called by all ranks together.

    NCCL refuses two ranks on one GPU. The number of GPUs that a process sees does not tell: a launcher may show each
    process its own GPU alone, as ``srun --gpus-per-task`` does. So the ranks compare the identities of their GPUs.

    Args:
        store: that of the rendezvous; its timeout bounds the wait for the other ranks.
        rank, world_size: this process among all.
        device: where this process computes.
    """
    store = dist.PrefixStore("gpu", store)
    store.set(str(rank), "cpu" if device.type == "cpu" else str(torch.cuda.get_device_properties(device).uuid))
    if device.type == "cpu":
        return Backend(name="gloo", reason="on CPUs")
    return _backend_for([gpu.decode() for gpu in store.multi_get([str(rank) for rank in range(world_size)])])


def _backend_for(gpus: Sequence[str]) -> Backend:
    """What carries messages between ranks on these GPUs: the identity of each, or cpu."""
    if "cpu" in gpus:
        return Backend(name="gloo", reason=f"rank {gpus.index('cpu')} computes on a CPU")
    first: dict[str, int] = {}
    for rank, gpu in enumerate(gpus):
        if first.setdefault(gpu, rank) != rank:
            return Backend(
                name="gloo",
                reason=f"ranks {first[gpu]} and {rank} share a GPU, which NCCL refuses: messages take the slow way "
                "through the host",
            )
    return Backend(name="nccl", reason="a GPU for each rank")


def leave_group(backend: Backend, *, failed: bool) -> None:
    """Destroy the process group; after a failure that of NCCL is aborted instead.

    To destroy it NCCL finishes what is under way, which never happens once a peer is dead.
    """
    if not failed or backend.name != "nccl":
        dist.destroy_process_group()
        return
    abort = getattr(distributed_c10d, "_abort_process_group", None)  # torch 2.6 and later
    if abort is None:
        text = f"fastvae: PyTorch {torch.__version__} cannot abort NCCL; if this process hangs now, end it"
        print(text, file=sys.stderr, flush=True)
        dist.destroy_process_group()
        return
    try:
        abort()
    except RuntimeError as error:  # it is experimental, and what the run failed of must not give way to it
        text = f"fastvae: NCCL was not aborted ({error}); if this process hangs now, end it"
        print(text, file=sys.stderr, flush=True)
