"""A process group for work in the background: its messages are separate from those of the training steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from fastvae.distributed.world import World

_MAX_BYTES = 1024  # length of a rank's error text that is sent to the others


class SideGroup:
    """A gloo group over all ranks (none for one process), created and used by all ranks in the same order."""

    def __init__(self, world: World) -> None:
        self.world = world
        timeout = timedelta(seconds=world.timeout_s)  # the default of a new group is 30 minutes
        self.group = dist.new_group(backend="gloo", timeout=timeout) if world.world_size > 1 else None

    def attempt(self, work: Callable[[], object]) -> str | None:
        """Run this rank's part of some work, then exchange errors with the other ranks.

        Returns:
            None if all ranks succeeded; else, on every rank, the error of the lowest failing rank.
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
    """Return an error in one line; errors of the operating system without their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
