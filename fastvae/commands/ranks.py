"""Commands whose work the processes of a launcher share: each computes a part of the rows, and rank 0 writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae.commands.options import Device, OnRun, load_run

if TYPE_CHECKING:
    from fastvae.distributed import Rounds
    from fastvae.run import LoadedRun


@dataclass(frozen=True, kw_only=True)
class OnRanks(OnRun):
    """Options of a command that runs on all processes of torchrun; its files do not depend on their number."""

    device: Device = "auto"
    """Device; auto is a GPU if one is available: under torchrun one for each process."""
    timeout: float = 600.0
    """Under torchrun: seconds that a process waits for another one before all end."""

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"--timeout must be a positive number of seconds, got {self.timeout}")

    @contextmanager
    def on_ranks(self, directory: Path) -> Iterator[tuple[LoadedRun, Rounds]]:
        """Context with the run on the device of this process, and the rounds in which the ranks share its rows.

        Raises:
            ValueError: the directory is not a run directory, or the device does not exist.
            PeerFailed: another rank failed first or does not respond.
        """
        from fastvae.distributed import enter_rounds  # imported here: it imports PyTorch

        with enter_rounds(self.device, timeout_s=self.timeout) as (world, rounds):
            yield load_run(directory, world.device, self.module), rounds
