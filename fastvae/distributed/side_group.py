"""A process group for work in the background: its messages are apart from those of the training steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from fastvae.distributed.world import World

_MAX_BYTES = 1024  # of a rank's error text that the others get to see


class SideGroup:
    """A gloo group over all ranks; of one process, nothing. Made and used by all ranks in the same order."""

    def __init__(self, world: World) -> None:
        self.world = world
        timeout = timedelta(seconds=world.timeout_s)  # a new group would have PyTorch's 30 minutes
        self.group = dist.new_group(backend="gloo", timeout=timeout) if world.world_size > 1 else None

    def attempt(self, work: Callable[[], object]) -> str | None:
        """Do this rank's share of some work, then tell the others how it went.

        Returns:
            None where all ranks were well; else, on every rank, the first failing rank's error.
        """
        error = None
        try:
            work()
        except Exception as problem:  # noqa: BLE001 (whatever it is, it is told to all ranks and raised there)
            error = describe(problem)
        return self._first(error)

    def _first(self, error: str | None) -> str | None:
        if self.group is None:
            return error
        mine = torch.zeros(_MAX_BYTES, dtype=torch.uint8)
        payload = (error or "").encode()[:_MAX_BYTES]
        mine[: len(payload)] = torch.tensor(list(payload), dtype=torch.uint8)
        everyone = [torch.empty_like(mine) for _ in range(self.world.world_size)]
        dist.all_gather(everyone, mine, group=self.group)
        texts = [bytes(row.tolist()).rstrip(b"\0").decode(errors="ignore") for row in everyone]
        return next((f"rank {rank}: {text}" for rank, text in enumerate(texts) if text), None)


def describe(error: Exception) -> str:
    """An error in one line; one of the operating system speaks for itself."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
