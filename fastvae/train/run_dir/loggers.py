"""Loggers: where metrics are written besides ``metrics.jsonl``. Only the process that writes builds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from fastvae.train.run_dir.run_dir import RunDir


class Logger(Protocol):
    """Writes the metrics of one run to a tracking library."""

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        """Write the numbers of a line of the log."""

    def show(self, name: str, path: Path, step: int) -> None:
        """Show a picture (PNG) or a text (TXT)."""

    def close(self) -> None:
        """Write everything that is left."""


class TensorBoard:
    """TensorBoard's event files in the run directory.

    Steps after the checkpoint that a run resumes from are logged again: TensorBoard drops the old ones.
    """

    def __init__(self, run_dir: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imported here: only the writing process needs it

        self._board = SummaryWriter(str(RunDir(run_dir).tensorboard), purge_step=first_step + 1)

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def show(self, name: str, path: Path, step: int) -> None:
        if path.suffix == ".txt":
            self._board.add_text(name, path.read_text(encoding="utf-8"), step)
            return
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._board.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._board.close()


LOGGERS: dict[str, Callable[[Path, int], Logger]] = {"tensorboard": TensorBoard}
"""The loggers that ``--train.loggers`` names; called with the run directory and the first step."""


def build_logger(name: str, run_dir: Path, first_step: int) -> Logger:
    """Build the logger of that name."""
    return LOGGERS[name](run_dir, first_step)
