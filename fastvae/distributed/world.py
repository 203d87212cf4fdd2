"""Which process this is, among how many, on which device: read from torchrun's environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist

from fastvae.distributed.backend import Backend, choose_backend, leave_group
from fastvae.distributed.failure import Failure, PeerFailed, Roster, failure_here


@dataclass(frozen=True, kw_only=True)
class World:
    """One process's place in the run."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")
    backend: Backend | None = None
    """What carries the messages between the processes; None without a process group."""

    @property
    def is_main(self) -> bool:
        """True on the one process that prints and writes what only one process should."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every process of the run."""
        if self.world_size > 1:
            # A sum on the CPU rather than dist.barrier(), which would pick a GPU by itself under NCCL.
            dist.all_reduce(torch.zeros(1))

    def broadcast_text(self, text: str | None) -> str | None:
        """Rank 0's text (or None) on every rank."""
        if self.world_size == 1:
            return text
        payload = bytes(text or "", "utf-8")
        size = torch.tensor([len(payload) if text is not None else -1])
        dist.broadcast(size, src=0)
        if size.item() < 0:
            return None
        data = (
            torch.tensor(list(payload), dtype=torch.uint8)
            if self.is_main
            else torch.zeros(int(size), dtype=torch.uint8)
        )
        dist.broadcast(data, src=0)
        return bytes(data.tolist()).decode("utf-8")


def _environment_int(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, got {text!r}; torchrun sets it, or unset it") from None


def choose_device(name: str, local_rank: int) -> torch.device:
    """``auto`` is this process's GPU where PyTorch sees one and the CPU elsewhere; ``cpu`` and ``cuda`` insist."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device cuda was asked for, but PyTorch sees no GPU here; `fastvae doctor` says why, or use cpu"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def world_from_environment(device: str = "auto", environment: Mapping[str, str] | None = None) -> World:
    """This process's place as torchrun's RANK, LOCAL_RANK and WORLD_SIZE say; one process where they are unset."""
    variables = os.environ if environment is None else environment
    local_rank = _environment_int(variables, "LOCAL_RANK", 0)
    return World(
        rank=_environment_int(variables, "RANK", 0),
        local_rank=local_rank,
        world_size=_environment_int(variables, "WORLD_SIZE", 1),
        device=choose_device(device, local_rank),
    )


@contextmanager
def enter_world(
    device: str = "auto", *, timeout_s: float = 600.0, on_failure: Callable[[Failure], None] | None = None
) -> Iterator[World]:
    """The process group for as long as the block runs; one that the caller made before is used and left alone.

    Args:
        device: see ``choose_device``.
        timeout_s: seconds that a process waits for a silent peer before it gives up.
        on_failure: called once with the run's first failure if the block raises, here or on another rank; it may be
            called from another thread, while the block still waits for a peer.

    Raises:
        PeerFailed: the block raised, but because of another rank, which the message names.
    """
    world = world_from_environment(device)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    started_by_launcher = {"RANK", "MASTER_ADDR"} <= os.environ.keys()  # then a group of one is a group too
    owns_group = (world.world_size > 1 or started_by_launcher) and not dist.is_initialized()
    roster = None
    if owns_group:
        roster, backend = _meet(world, timeout_s, on_failure)
        world = replace(world, backend=backend)
    elif dist.is_initialized():
        name = "nccl" if world.device.type == "cuda" and "nccl" in dist.get_backend_config() else "gloo"
        world = replace(world, backend=Backend(name=name, reason="as the caller set it up"))
    failed = True
    try:
        yield world
        failed = False
    except Exception as error:
        own = failure_here(world.rank, error)
        failure = own if roster is None else roster.diagnose(error)
        if roster is None and on_failure is not None:
            on_failure(own)
        if failure == own:
            raise
        raise PeerFailed(failure.seen_from(world.rank)) from error
    finally:
        if roster is not None and world.backend is not None:
            leave_group(world.backend, failed=failed)
            roster.close()


def _meet(world: World, timeout_s: float, on_failure: Callable[[Failure], None] | None) -> tuple[Roster, Backend]:
    """Find the other ranks where the launcher says that they are, and form the process group.

    Raises:
        PeerFailed: they did not all come, or could not connect to each other.
    """
    start = timedelta(seconds=max(timeout_s, 60))  # a busy machine takes seconds to start all of its processes
    try:
        store, rank, world_size = next(dist.rendezvous("env://", timeout=start))
        backend = choose_backend(store, rank, world_size, world.device)
        dist.init_process_group(
            backend.of_each_device,
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout_s),
            # NCCL then connects here, on this GPU, and not in the middle of the first step on one that it guesses.
            device_id=world.device if backend.name == "nccl" else None,
        )
    except RuntimeError as error:  # PyTorch's network errors are among them
        head = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise PeerFailed(
            f"rank {world.rank} on {socket.gethostname()}: the {world.world_size} processes did not find each other "
            f"through {head} in {start.total_seconds():g} s: {error}. Were all started, do all reach {head}, and "
            "does the interface lead to the other hosts (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)?"
        ) from error
    return Roster(dist.PrefixStore("fastvae", store), rank, world_size, timeout_s, on_failure), backend
