"""Slurm's commands, and the job of a run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.status import read_status

_TIMEOUT_S = 60  # Slurm's commands wait forever if the controller is down


def ask_slurm(*words: str) -> str:
    """Return the output of one of Slurm's commands.

    Raises:
        ValueError: the command is missing, does not answer or fails; the message has its output.
    """
    if shutil.which(words[0]) is None:
        raise ValueError(f"{words[0]} is not on PATH: run this on a machine with Slurm's commands")
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{words[0]} did not answer in {_TIMEOUT_S} s: is slurmctld up? try scontrol ping") from None
    if result.returncode != 0:
        raise ValueError(f"{shlex.join(words)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def queued_jobs() -> dict[str, str]:
    """Return the line of ``squeue`` on every job, by its ID and its array's; empty without Slurm."""
    if shutil.which("squeue") is None:
        return {}
    lines = [line.split("|") for line in ask_slurm("squeue", "--noheader", "--format=%A|%F|%i %T %M %R").splitlines()]
    return {number: f"job {said}" for job_id, array_id, said in lines for number in (array_id, job_id)}


def job_of(run_dir: Path) -> str | None:
    """Return the job that was submitted for a run, or that started it last."""
    path = RunDir(run_dir).job_id
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    attempt = (read_status(run_dir) or {}).get("attempt")
    return str(attempt).partition(".")[0] if attempt else None
