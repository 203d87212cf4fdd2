"""Slurm's own commands, and which job a run has."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.status import read_status

_TIMEOUT_S = 60  # Slurm's commands wait for ever for a controller that is down


def ask_slurm(*words: str) -> str:
    """What one of Slurm's commands prints.

    Raises:
        ValueError: the command is not here, does not answer, or refuses; the message has its words.
    """
    if shutil.which(words[0]) is None:
        raise ValueError(f"{words[0]} is not on PATH: this needs a machine where Slurm's commands are")
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{words[0]} did not answer in {_TIMEOUT_S} s: is slurmctld up? try scontrol ping") from None
    if result.returncode != 0:
        raise ValueError(f"{shlex.join(words)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def queued_jobs() -> dict[str, str]:
    """What ``squeue`` says of every job in the queue, by its id and its array's; nothing where there is no Slurm."""
    if shutil.which("squeue") is None:
        return {}
    lines = [line.split("|") for line in ask_slurm("squeue", "--noheader", "--format=%A|%F|%i %T %M %R").splitlines()]
    return {number: f"job {said}" for job_id, array_id, said in lines for number in (array_id, job_id)}


def job_of(run_dir: Path) -> str | None:
    """The job that was submitted for a run, or that started it last."""
    path = RunDir(run_dir).job_id
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    attempt = (read_status(run_dir) or {}).get("attempt")
    return str(attempt).partition(".")[0] if attempt else None
