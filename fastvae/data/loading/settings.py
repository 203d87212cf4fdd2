"""Where the examples of a run are read: in the training process, or by worker processes ahead of the step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fastvae.data.source import Source
from fastvae.settings import Settings

Workers: TypeAlias = int | Literal["auto"]
OnBadExample: TypeAlias = Literal["stop", "replace"]
MAX_AUTO_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class Loading(Settings):
    """How the training examples of a run are read. The workers change no number of a run."""

    workers: Workers = "auto"
    """Processes of each rank that read batches ahead of time; 0 reads in the training process. auto: for examples
    that are decoded one by one, such as images, one fewer than the cores of the rank, at most 8; else 0."""
    prefetch: int = 2
    """Batches that each worker reads ahead."""
    on_bad_example: OnBadExample = "stop"
    """What to do about a training example that cannot be read: stop, or take another one in its place (replace)."""

    def __post_init__(self) -> None:
        if self.workers != "auto" and (type(self.workers) is not int or self.workers < 0):
            raise ValueError(f"data: workers must be a whole number >= 0, or auto, got {self.workers!r}")
        if self.prefetch < 1:
            raise ValueError(f"data: prefetch must be at least 1 batch of each worker, got {self.prefetch}")

    def num_workers(self, source: Source) -> int:
        """Return the number of worker processes of this rank for a source."""
        if self.workers != "auto":
            return self.workers
        return min(MAX_AUTO_WORKERS, _cores_of_rank() - 1) if source.is_decoded else 0


def _cores_of_rank() -> int:
    """The cores that this process may use, shared by the ranks on its host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1)))
