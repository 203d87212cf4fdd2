"""Each rank's heartbeat: what tells a rank that is frozen, or cut off, from one that is slow."""

from __future__ import annotations

import time

import torch.distributed as dist

PERIOD_S = 0.5
_ASLEEP_S = 2.0  # a longer pause of this very process is no silence of another
_LEFT = 1 << 40  # added to the count of a rank that has left in order


class Heartbeat:
    """Counts in the store, twice a second, and reads the count of one other rank: three small messages a period.

    The ranks form a ring: each watches the nearest rank below it that has not left. So a rank costs the store the same
    however many there are, and whichever ranks freeze, one of them is watched by a rank that runs. The thread that
    beats needs Python's lock for some microseconds a period: a rank that computes, compiles or waits for a disk goes on
    beating. One call that keeps the lock for longer than the timeout cannot be told from a frozen process.

    Args:
        store: that of the process group; used by one thread alone.
        rank, world_size: this process among all.
    """

    def __init__(self, store: dist.Store, rank: int, world_size: int) -> None:
        self._store, self._rank = store, rank
        self._peers = [(rank - distance) % world_size for distance in range(1, world_size)]
        self._count, self._at = -1, time.monotonic()
        self.silence_s = 0.0  # how long the watched rank has not counted

    @property
    def watched(self) -> int | None:
        """The rank whose count is read; None once all others have left."""
        return self._peers[0] if self._peers else None

    def beat(self) -> None:
        """Count once, and see whether the watched rank still counts."""
        self._store.add(f"beat/{self._rank}", 1)
        while self._peers:
            count = self._store.add(f"beat/{self._peers[0]}", 0)
            if count < _LEFT:
                break
            self._peers.pop(0)
            self._restart()
        else:
            return
        now = time.monotonic()
        self.silence_s = 0.0 if count != self._count else self.silence_s + min(now - self._at, _ASLEEP_S)
        self._count, self._at = count, now

    def leave(self) -> None:
        """Say that this rank ends in order: it is not watched any more."""
        self._store.add(f"beat/{self._rank}", _LEFT)

    def _restart(self) -> None:
        self._count, self._at, self.silence_s = -1, time.monotonic(), 0.0


class Clock:
    """Seconds since the last ``reset``, without those in which this process itself was stopped or asleep."""

    def __init__(self) -> None:
        self._seconds, self._at = 0.0, time.monotonic()

    def reset(self) -> None:
        """Start from 0; may be called from another thread than ``tick``."""
        self._seconds = 0.0

    def tick(self) -> float:
        """The seconds; to be called more often than every two seconds."""
        now = time.monotonic()
        self._seconds += min(now - self._at, _ASLEEP_S)
        self._at = now
        return self._seconds
