"""Which rank is it? A broken connection names an address; this names the rank, its process and its host."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from fastvae.distributed.world import World

_PATIENCE_S = 3.0  # for the other ranks to say what they saw: they all notice the same break
_BROKEN = re.compile(r"gloo|nccl|socket|connection|timed? ?out|store|recv|peer", re.IGNORECASE)


class PeerLost(RuntimeError):
    """Another rank is gone, hangs, or failed first."""


@contextmanager
def naming_lost_peers(world: World) -> Iterator[None]:
    """When the block fails because ranks cannot reach each other, say which rank is the reason.

    Every rank that fails leaves word in the launcher's store; a rank whose connections broke waits a moment for the
    others' word, and names those that left none.

    Raises:
        PeerLost: names the ranks, with process and host.
    """
    if world.world_size == 1:
        yield
        return
    store = dist.distributed_c10d._get_default_store()
    store.set(f"fastvae/who/{world.rank}", f"process {os.getpid()} on {socket.gethostname()}")
    try:
        yield
    except Exception as error:
        is_broken = isinstance(error, RuntimeError) and _BROKEN.search(str(error)) is not None
        try:
            store.set(f"fastvae/failed/{world.rank}", "" if is_broken else f"{type(error).__name__}: {error}")
            culprits = _roll_call(store, world) if is_broken else []
        except dist.DistError as gone:
            culprits = [f"the rank or launcher that keeps the store of this run is gone ({_first_line(gone)})"]
        if culprits:
            raise PeerLost(f"rank {world.rank} cannot go on: {'; '.join(culprits)}") from error
        raise


def _roll_call(store: dist.Store, world: World) -> list[str]:
    """What is known of every rank that is not merely another witness."""
    missing = set(range(world.world_size)) - {world.rank}
    failed: list[str] = []
    deadline = time.monotonic() + _PATIENCE_S
    while missing and time.monotonic() < deadline:
        for rank in sorted(rank for rank in missing if store.check([f"fastvae/failed/{rank}"])):
            missing.discard(rank)
            words = store.get(f"fastvae/failed/{rank}").decode()
            failed += [f"rank {rank} failed first: {words}"] if words else []
        time.sleep(0.05)
    silent = [f"rank {rank} ({_who(store, rank)}) is gone or hangs" for rank in sorted(missing)]
    return [*failed, *silent]


def _who(store: dist.Store, rank: int) -> str:
    key = f"fastvae/who/{rank}"
    return store.get(key).decode() if store.check([key]) else "never arrived"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
