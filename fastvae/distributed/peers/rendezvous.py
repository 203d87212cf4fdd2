"""The rendezvous of a run's processes: all within the timeout, or an error that names the missing ones."""

from __future__ import annotations

import itertools
import os
import socket
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

from fastvae.distributed.peers.failure import PeerFailed, within

_POLL_S = 0.1
_NUMBERS = itertools.count()  # of the meetings of this process: a script may train several times
_SHOWN = 8  # number of missing ranks that a message names
_REMEDY = (
    "Was it started, and does its host reach {head}? If this process was meant to run alone, unset RANK, WORLD_SIZE, "
    "MASTER_ADDR and MASTER_PORT; if the others only start late, raise --train.timeout"
)


def meet(rank: int, world_size: int, timeout_s: float) -> dist.Store:
    """Return the store at MASTER_ADDR:MASTER_PORT once every rank has reached it, with keys of this meeting only.

    It is served by torchrun, or by rank 0 with other launchers. All ranks must meet equally often.

    Raises:
        PeerFailed: a rank did not arrive in time, or the store is not reachable.
        ValueError: an environment variable is missing or wrong.
    """
    deadline = time.monotonic() + timeout_s
    host, port = _head()
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    this, head = f"rank {rank} on {socket.gethostname()}", f"{host}:{port}"

    def connect() -> dist.Store:
        timeout = timedelta(seconds=timeout_s)
        return dist.TCPStore(host, port, world_size, serves, timeout, wait_for_workers=False, multi_tenant=True)

    try:
        store = within(timeout_s, connect)
    except (RuntimeError, TimeoutError) as error:
        if serves:
            raise PeerFailed(
                f"{this} cannot serve at {head}: {error}. Is the port in use by another run? Choose another MASTER_PORT"
            ) from error
        raise PeerFailed(
            f"{this} did not reach rank 0 at {head} within {timeout_s:g} s (--train.timeout). "
            + _REMEDY.format(head=head).replace("its host", "this host")
        ) from error
    store = dist.PrefixStore(f"fastvae/{next(_NUMBERS)}", store)
    try:
        meeting, missing = _wait_for_all(store, rank, world_size, deadline)
    except dist.DistError as error:
        raise PeerFailed(f"{this}: rank 0 at {head} ended before all ranks had arrived; see its message") from error
    if missing:
        names = ", ".join(map(str, missing[:_SHOWN])) + (" and more" if len(missing) > _SHOWN else "")
        raise PeerFailed(
            f"{this}: rank {names} did not reach {head} within {timeout_s:g} s (--train.timeout); "
            f"{world_size - len(missing)} of {world_size} processes did. {_REMEDY.format(head=head)}"
        )
    return meeting


def _wait_for_all(store: dist.Store, rank: int, world_size: int, deadline: float) -> tuple[dist.Store, list[int]]:
    """Wait until all ranks are in one meeting, or until the deadline; return its store, and the ranks that are missing.

    torchrun's store outlives the processes, and its agents count their restarts differently (an agent that was itself
    restarted starts from 0): neither distinguishes a process from its predecessor. So each process says hello with a
    number of its own, and rank 0 invites these numbers to a meeting, and to a new one if a rank says hello again.
    """
    own = uuid.uuid4().hex
    store.set(f"hello/{rank}", own)
    store.add("hellos", 1)
    everyone = [f"hello/{other}" for other in range(world_size)]
    meeting, name, num_hellos = dist.PrefixStore("hello", store), "", 0
    invited: list[bytes] = []
    while True:
        if rank == 0 and store.add("hellos", 0) != num_hellos and store.check(everyone):
            num_hellos = store.add("hellos", 0)
            guests = [store.get(key) for key in everyone]
            if guests != invited:
                invited = guests
                _invite(invited, store)
        invitation = f"invited/{own}"
        if store.check([invitation]) and store.get(invitation).decode("utf-8") != name:
            name = store.get(invitation).decode("utf-8")
            meeting = dist.PrefixStore(f"meeting/{name}", store)
            meeting.set(str(rank), "")
            meeting.add("count", 1)
        if name and meeting.add("count", 0) >= world_size:
            return meeting, []
        if time.monotonic() > deadline:
            missing = [other for other in range(world_size) if not meeting.check([str(other)])]
            return meeting, missing or [0]  # all have said hello at some time, but rank 0 did not invite this process
        time.sleep(_POLL_S)


def _invite(guests: Sequence[bytes], store: dist.Store) -> None:
    name = str(store.add("meetings", 1))
    for guest in guests:
        store.set(f"invited/{guest.decode('utf-8')}", name)


def _head() -> tuple[str, int]:
    """Return the host and port of the rendezvous.

    Raises:
        ValueError: a variable is missing or not a port.
    """
    text = os.environ["MASTER_PORT"]
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ValueError(f"MASTER_PORT must be a port, got {text!r}; torchrun sets it")
    return os.environ["MASTER_ADDR"], int(text)
