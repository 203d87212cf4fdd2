"""Parallel runs of ``fastvae train`` whose output is printed line by line, for gpu_train and gpu_strategies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import safetensors.torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A run of the recipe digits with one or several processes on this machine."""

    run_dir: Path
    device: str
    options: tuple[str, ...]
    num_ranks: int = 0  # 0 for no process group
    lines: list[str] = field(default_factory=list)

    def processes(self) -> list[subprocess.Popen[str]]:
        """Start the processes without a launcher, so that a signal to the caller's process group ends all ranks."""
        words = [f"--run-dir={self.run_dir}", f"--train.device={self.device}", "--train.final-samples=10"]
        command = [sys.executable, "-m", "fastvae", "train", "digits", *words, *self.options]
        tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # DeepSpeed needs ninja
        shared = {**os.environ, "PATH": tools, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "errors": "replace"}
        return [subprocess.Popen(command, env=shared | rank, **pipes) for rank in self.ranks()]

    def ranks(self) -> list[dict[str, str]]:
        """The environment variables that torchrun would set for each process."""
        if self.num_ranks == 0:
            return [{}]
        size = str(self.num_ranks)
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        shared |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        return [{"RANK": str(rank), "LOCAL_RANK": str(rank), **shared} for rank in range(self.num_ranks)]

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The records of one kind in metrics.jsonl."""
        found = [json.loads(line) for line in (self.run_dir / "metrics.jsonl").read_text().splitlines()]
        return [record for record in found if record["kind"] == kind]

    def first_loss_nats(self) -> float:
        """The loss of step 1, before the first update of the weights."""
        return float(self.records("train")[0]["loss_nats"])

    def weights(self) -> dict[str, Tensor]:
        """The final weights of the run."""
        return safetensors.torch.load_file(self.run_dir / "model.safetensors")


def run_together(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """Run all at once and return those that failed. Their output is printed immediately and stored in ``lines``."""
    started = [(run, process) for run in runs for process in run.processes()]
    readers = [Thread(target=_relay, args=pair, daemon=True) for pair in started]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    failed = [run for run, process in started if process.wait() != 0]
    return [run for run in runs if run in failed]


def _relay(run: TrainingRun, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        run.lines.append(line)
        print(f"[{run.run_dir.name}] {line.rstrip()}", flush=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
