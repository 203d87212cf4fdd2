"""Choose the back end of the process group, and destroy the group."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The back end of a run's process group, the same on all ranks."""

    name: str
    """Back end of tensors on GPUs: nccl or gloo. Tensors in host memory always use gloo."""
    reason: str
    """Reason of the choice."""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"

    @property
    def of_each_device(self) -> str:
        """Return the argument ``backend`` of ``torch.distributed.init_process_group``."""
        return "cpu:gloo,cuda:nccl" if self.name == "nccl" else "gloo"


def choose_backend(store: dist.Store, rank: int, world_size: int, device: torch.device) -> Backend:
    """Return NCCL if every rank has its own GPU, else gloo; called by all ranks together.

    NCCL does not support two ranks on one GPU. The number of visible GPUs does not show that: a launcher may show each
    process only its own GPU, as ``srun --gpus-per-task`` does. So the ranks compare the identities of their GPUs.

    Args:
        store: store of the rendezvous; its timeout limits the wait for the other ranks.
        rank, world_size: rank of this process and number of processes.
        device: device of this process.
    """
    store = dist.PrefixStore("gpu", store)
    store.set(str(rank), "cpu" if device.type == "cpu" else str(torch.cuda.get_device_properties(device).uuid))
    if device.type == "cpu":
        return Backend(name="gloo", reason="on CPUs")
    return _backend_for([gpu.decode() for gpu in store.multi_get([str(rank) for rank in range(world_size)])])


def _backend_for(gpus: Sequence[str]) -> Backend:
    """Return the back end for ranks on these GPUs (their identities, or "cpu")."""
    if "cpu" in gpus:
        return Backend(name="gloo", reason=f"rank {gpus.index('cpu')} computes on a CPU")
    first: dict[str, int] = {}
    for rank, gpu in enumerate(gpus):
        if first.setdefault(gpu, rank) != rank:
            return Backend(
                name="gloo",
                reason=f"ranks {first[gpu]} and {rank} share a GPU, which NCCL does not support: messages are slower, "
                "through host memory",
            )
    return Backend(name="nccl", reason="a GPU for each rank")


def leave_group(backend: Backend, *, failed: bool) -> None:
    """Destroy the process group; after a failure that of NCCL is aborted instead.

    NCCL finishes pending operations before it is destroyed, which never happens once another rank is dead.
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
    except RuntimeError as error:  # an experimental function; its error must not replace the run's
        text = f"fastvae: NCCL was not aborted ({error}); if this process hangs now, end it"
        print(text, file=sys.stderr, flush=True)
