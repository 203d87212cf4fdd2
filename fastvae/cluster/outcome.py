"""The outcome of a batch job's run, for batch scripts: torchrun's exit code is 1 for every stop."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

from fastvae.train.run_dir.status import read_status, write_status

_TRIES = 2  # a failure is permanent after this many repetitions without a newer checkpoint


class Outcome(IntEnum):
    """Outcome of a batch job's run, as an exit code; 75 is ``EX_TEMPFAIL`` of sysexits.h."""

    DONE = 0
    FAILED = 1
    AGAIN = 75


def judge(run_dir: Path, attempt: str | None, *, warned: bool) -> tuple[Outcome, str]:
    """Return the outcome of a batch job that has just stopped, and the reason; a silent end is a failure.

    Args:
        run_dir: the run directory.
        attempt: identifies this start of the job, from ``FASTVAE_ATTEMPT``.
        warned: whether the job received the signal before its time limit.
    """
    status = read_status(run_dir)
    if status is None or status.get("attempt") != attempt:
        if warned:
            return Outcome.AGAIN, "the signal before the time limit came before training started"
        status = _record_silence(run_dir, status, "the job's processes ended before training started; see the log")
    elif status["state"] == "running":
        status = _record_silence(run_dir, status, "the job's processes ended without a recorded reason; see the log")
    if status["state"] == "done":
        return Outcome.DONE, "all steps done"
    if status["state"] == "preempted":
        return Outcome.AGAIN, f"stopped by {status.get('reason')} at step {status['step']}"
    failure = status.get("failure", {})
    if failure.get("count", _TRIES) >= _TRIES:
        since = failure.get("checkpoint") or "the start"
        return (
            Outcome.FAILED,
            f"failed the same way {failure.get('count')} times since {since}: {failure.get('reason')}",
        )
    return Outcome.AGAIN, f"failed at step {status['step']}, and is tried once more: {failure.get('reason')}"


def _record_silence(run_dir: Path, status: Mapping[str, Any] | None, reason: str) -> dict[str, Any]:
    from fastvae.distributed import World  # imported here: it imports PyTorch, which `fastvae status` does not need

    run_dir.mkdir(parents=True, exist_ok=True)
    write_status(run_dir, World(), "failed", status["step"] if status else 0, reason=reason)
    return read_status(run_dir) or {}
