"""Rank, number of processes and device of this process, from torchrun's environment."""

from __future__ import annotations

import atexit
import faulthandler
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist

from fastvae.distributed.backend import Backend, choose_backend, leave_group
from fastvae.distributed.peers.failure import Failure, PeerFailed, failure_here, is_peer_error, signals_held
from fastvae.distributed.peers.rendezvous import meet
from fastvae.distributed.peers.roster import Roster, to_stderr

_LAST_S = 2.0


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank, number of processes and device of one process."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")
    backend: Backend | None = None
    """Back end of the process group; None without a process group."""
    timeout_s: float = 600.0
    """Seconds that a process waits for another one."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints and writes files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every process of the run."""
        if self.world_size > 1:
            # A sum on the CPU rather than dist.barrier(), which would choose a GPU itself with NCCL.
            dist.all_reduce(torch.zeros(1))

    def broadcast_text(self, text: str | None) -> str | None:
        """Return rank 0's text (or None) on every rank."""
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
    """Return the device: ``auto`` is this process's GPU if available, else the CPU."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was requested, but PyTorch finds no GPU; `fastvae doctor` shows why, or use cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def world_from_environment(device: str = "auto", environment: Mapping[str, str] | None = None) -> World:
    """Read torchrun's RANK, LOCAL_RANK and WORLD_SIZE; one process if they are not set.

    Raises:
        ValueError: the variables were not set by a launcher of this process; or Slurm started several processes without
            a launcher that connects them.
    """
    variables = os.environ if environment is None else environment
    rank, world_size = _environment_int(variables, "RANK", 0), _environment_int(variables, "WORLD_SIZE", 1)
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not variables.get(name)]
    if world_size > 1 and missing:
        raise ValueError(
            f"WORLD_SIZE is {world_size} in the environment, but {missing[0]} is not set: this process was not "
            "started by a "
            "launcher. Unset WORLD_SIZE to use one process, or start with torchrun"
        )
    if not 0 <= rank < world_size:
        raise ValueError(
            f"RANK must be in 0 to WORLD_SIZE - 1, got RANK {rank} and WORLD_SIZE {variables.get('WORLD_SIZE')}. "
            "Unset both to use one process, or start with torchrun"
        )
    if "RANK" not in variables:
        _refuse_bare_srun(variables)
    local_rank = _environment_int(variables, "LOCAL_RANK", 0)
    return World(rank=rank, local_rank=local_rank, world_size=world_size, device=choose_device(device, local_rank))


def _refuse_bare_srun(variables: Mapping[str, str]) -> None:
    """Check that this is not one of several Slurm tasks that would each train the same run alone."""
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):  # the number of the step, if srun started this process
        if name in variables:
            tasks = _environment_int(variables, name, 1)
            if tasks > 1:
                raise ValueError(
                    f"{name} is {tasks}, but no launcher connects the {tasks} processes: each would do "
                    "all of the work alone. Start with `fastvae submit` or launch/slurm/train.sbatch, or give srun "
                    f"--ntasks-per-node=1 and torchrun; to use one process, give srun --ntasks=1, or unset {name}"
                )
            return


@contextmanager
def enter_world(
    device: str = "auto",
    *,
    timeout_s: float = 600.0,
    on_failure: Callable[[Failure], None] | None = None,
    last_words: Callable[[str], None] = to_stderr,
) -> Iterator[World]:
    """Context with the process group; one that the caller created is used and not destroyed.

    All ranks leave the block together. A rank that freezes, dies or raises ends the others within ``timeout_s`` + 5 s,
    wherever they are: those that cannot leave the block by an exception are ended with exit code 1.

    Args:
        device: see ``choose_device``.
        timeout_s: seconds that a process waits for another one before it fails.
        on_failure: called once with the run's first failure if the block raises, here or on another rank; it may be
            called from another thread, while the block still waits for a peer.
        last_words: prints a message if this process must be ended immediately.

    Raises:
        PeerFailed: the block raised because of another rank, which the message names; or the rendezvous failed.
    """
    world = replace(world_from_environment("cpu"), timeout_s=timeout_s)
    # Then a group of one is a group too.
    started_by_launcher = {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    owns_group = (world.world_size > 1 or started_by_launcher) and not dist.is_initialized()
    roster = None
    if owns_group:
        try:
            store = meet(world.rank, world.world_size, timeout_s)
        except PeerFailed:
            atexit.register(_end_process)
            raise
        roster = Roster(
            dist.PrefixStore("fastvae", store), world.rank, world.world_size, timeout_s, on_failure, last_words
        )
    failed, peer_failed = True, False
    holding = ExitStack()
    try:
        world = replace(world, device=choose_device(device, world.local_rank))
        if world.device.type == "cuda":
            torch.cuda.set_device(world.device)
        if roster is not None:
            world = replace(world, backend=_form_group(store, world))
        elif dist.is_initialized():
            name = "nccl" if world.device.type == "cuda" and "nccl" in dist.get_backend_config() else "gloo"
            world = replace(world, backend=Backend(name=name, reason="as the caller set it up"))
        yield world
        if roster is not None:
            world.barrier()  # a rank that hangs at the end is detected by those that wait for it here
        failed = False
    except Exception as error:
        holding.enter_context(signals_held())  # the launcher stops this process as soon as another one has ended
        own = failure_here(world.rank, error)
        failure = own if roster is None else roster.diagnose(error)
        if roster is None and on_failure is not None:
            on_failure(own)
        if failure == own:
            raise
        is_same_error = failure.reason == own.reason  # such as an invalid setting: every rank leaves by itself
        peer_failed = roster is not None and not is_same_error
        raise PeerFailed(failure.seen_from(world.rank), is_same_error=is_same_error) from error
    finally:
        with holding:
            if roster is not None:
                _leave(roster, world, failed=failed, peer_failed=peer_failed)


def _form_group(store: dist.Store, world: World) -> Backend:
    """Create the process group after the rendezvous.

    Raises:
        PeerFailed: they could not connect to each other.
    """
    backend = choose_backend(store, world.rank, world.world_size, world.device)
    try:
        dist.init_process_group(
            backend.of_each_device,
            store=store,
            rank=world.rank,
            world_size=world.world_size,
            timeout=timedelta(seconds=world.timeout_s),
            # NCCL then connects here, on this GPU, and not during the first step on a GPU that it guesses.
            device_id=world.device if backend.name == "nccl" else None,
        )
    except RuntimeError as error:
        if is_peer_error(error):
            raise
        raise PeerFailed(
            f"rank {world.rank} on {socket.gethostname()}: the {world.world_size} processes found each other, but "
            "could not connect "
            f"directly: {error}. Does the interface lead to the other hosts (GLOO_SOCKET_IFNAME, "
            "NCCL_SOCKET_IFNAME)?"
        ) from error
    return backend


def _leave(roster: Roster, world: World, *, failed: bool, peer_failed: bool) -> None:
    """Destroy the process group and stop monitoring, in a bounded time.

    If another rank failed, gloo's group is not destroyed, since that waits for operations with that rank.
    """
    try:
        if world.backend is None or (peer_failed and world.backend.name == "gloo"):
            return
        if not failed and world.world_size > 1:
            faulthandler.dump_traceback_later(world.timeout_s + _LAST_S, exit=True, file=2)
        leave_group(world.backend, failed=failed)
    finally:
        faulthandler.cancel_dump_traceback_later()
        roster.close()
        if peer_failed:
            atexit.register(_end_process)


def _end_process() -> None:
    """End a process after another rank failed, at Python's exit: threads in C++ still wait for that rank.

    Python would wait for them until the timeout, or stop them inside C++, which crashes. Other functions that are
    registered for the exit run first.
    """
    faulthandler.dump_traceback_later(_LAST_S, exit=True, file=os.open(os.devnull, os.O_WRONLY))
    atexit.unregister(_end_process)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
