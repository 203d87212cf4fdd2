"""Output of a run: ``metrics.jsonl``, loggers, and a line or a bar on the terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fastvae.distributed import StepReport, World
from fastvae.durations import Clock
from fastvae.train.config import TrainConfig
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.loggers import Logger, build_logger
from fastvae.train.run_dir.logs import RankLog
from fastvae.train.run_dir.notebook import NotebookView, in_notebook
from fastvae.train.run_dir.run_dir import RunDir

_MAX_REASON = 300  # characters


class Window:
    """Sums since the last line of the log, on the device so that a step requires no synchronisation."""

    def __init__(self, device: torch.device, width: int) -> None:
        self._sums = torch.zeros(width, device=device)
        self._num_columns = width
        self.grad_norms: dict[str, Tensor] = {}  # [] gradient norm of each player's last step
        self.restart(0)

    def restart(self, step: int) -> None:
        """Reset the sums in place, at a step of the run."""
        self.first_step = step
        self._sums.zero_()
        self._started = time.perf_counter()

    def add(self, reports: Mapping[str, StepReport], sums: Tensor) -> None:
        """Add a step, on the device only, so that it can be captured.

        Raises:
            ValueError: the sums are not those of the task's columns.
        """
        if sums.dim() != 1 or len(sums) > len(self._sums):
            raise ValueError(
                f"a task's step must return sums with a number for each of its {len(self._sums)} columns, got shape"
                f" {list(sums.shape)}; see fastvae.train.task.StepResult"
            )
        self._num_columns = len(sums)
        self._sums[: self._num_columns] += sums
        self.grad_norms |= {name: report.grad_norm for name, report in reports.items()}

    @property
    def sums(self) -> Tensor:
        """float32: one sum for each column of the task that its steps return."""
        return self._sums[: self._num_columns]

    def seconds(self) -> float:
        return time.perf_counter() - self._started


class MetricsLog:
    """Log of the run on rank 0; calls on other ranks do nothing."""

    def __init__(
        self,
        run_dir: Path,
        world: World,
        *,
        config: TrainConfig,
        num_examples: int,
        first_step: int,
        lines: RankLog,
    ) -> None:
        self._lines, self._is_shown = lines, config.progress
        self._clock = Clock(num_examples=num_examples, global_batch_size=config.global_batch_size)
        self._active = world.is_main
        if not self._active:
            return
        self._path = RunDir(run_dir).metrics
        _drop_after(self._path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._loggers: dict[str, Logger] = {}
        for name in config.loggers:
            self._loggers[name] = build_logger(name, run_dir, first_step)
        self._notebook = NotebookView(config.num_steps, first_step) if config.progress and in_notebook() else None
        self._console = Console(stderr=True)
        self._total_steps = config.num_steps
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self._console,
            disable=not (config.progress and self._console.is_terminal),
        )
        self._task = self._progress.add_task("train", total=config.num_steps, completed=first_step, rate="", numbers="")
        self._progress.start()

    def write(
        self,
        kind: str,
        step: int,
        values: Mapping[str, float | int | None],
        lists: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Append one record with the examples and epochs seen; a value that is not finite is written as null, since
        JSON has no NaN.

        ``lists`` are written to ``metrics.jsonl`` only.
        """
        if not self._active:
            return
        seen = {"epoch": self._clock.epochs(step), "examples": self._clock.examples(step)}
        record: dict[str, Any] = {**seen} | {name: _finite(value) for name, value in values.items()}
        record |= {name: [_finite(value) for value in items] for name, items in (lists or {}).items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **record}) + "\n")
        self._file.flush()
        known = {name: value for name, value in values.items() if value is not None}
        self._send(lambda logger: logger.scalars(kind, step, {"epoch": seen["epoch"], **known}))
        numbers = "  ".join(f"{name} {value:.5g}" for name, value in known.items())
        line = f"{kind} {step}/{self._total_steps}  epoch {seen['epoch']:.4g}  examples {seen['examples']}  {numbers}"
        self._lines.line(line)
        if self._notebook is not None:
            if kind != "train":  # those are the curve
                self._notebook.line(line)
        elif self._is_shown and not self._console.is_terminal:
            print(line, file=sys.stderr, flush=True)

    def advance(self, step: int, rate: str = "", numbers: str = "", loss: float | None = None) -> None:
        """Advance the progress bar; ``loss`` is the next point of a notebook's curve."""
        if self._active and self._notebook is not None:
            self._notebook.advance(step, f"{rate}  {numbers}".strip(), loss)
        elif self._active and self._console.is_terminal:
            fields = {name: text for name, text in (("rate", rate), ("numbers", numbers)) if text}
            self._progress.update(self._task, completed=step, **fields)  # type: ignore[arg-type]

    def print_line(self, text: str) -> None:
        """Print a line on the terminal."""
        self._lines.line(text)
        if self._active and self._notebook is not None:
            self._notebook.line(text)
        elif self._active and self._is_shown:
            self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, name: str, path: Path, step: int) -> None:
        """Show a picture or a text in the loggers."""
        if self._active:
            self._send(lambda logger: logger.show(name, path, step))

    def _send(self, action: Callable[[Logger], None]) -> None:
        """Do the same with every logger; one that fails, as if its server is away, is not used any more."""
        for name, logger in list(self._loggers.items()):
            try:
                action(logger)
            except Exception as error:  # noqa: BLE001  it is printed, and metrics.jsonl has all numbers
                del self._loggers[name]
                reason = " ".join(str(error).split())[:_MAX_REASON]
                self.print_line(f"logger {name} failed and gets no more metrics ({type(error).__name__}: {reason})")

    def close(self) -> None:
        """Stop the progress bar and close the files."""
        if self._active:
            self._progress.stop()
            self._file.close()
            self._send(lambda logger: logger.close())


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _drop_after(path: Path, step: int) -> None:
    """Remove the records of steps that will be run again, and an incomplete last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["step"] > step:
            break
        if record["kind"] != "final":  # a resumed run will have another final record
            kept.append(line + "\n")
    write_atomic(path, "".join(kept))
