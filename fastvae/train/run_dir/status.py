"""``status.json``: the state of a run, and whether it repeats a failure. Batch scripts depend on it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvae.train.run_dir.files import dump_json, write_atomic
from fastvae.train.run_dir.run_dir import RunDir

if TYPE_CHECKING:
    from fastvae.distributed import World

ATTEMPT = "FASTVAE_ATTEMPT"  # the environment variable that identifies this start of a batch job
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


def write_status(run_dir: Path, world: World, state: str, step: int, **details: Any) -> None:
    """Write the state of the run (running, preempted, done or failed) with its step and reason.

    The ``failure`` of a failed run contains the fingerprint of its reason and the number of consecutive failures with
    it without a newer checkpoint; it is kept while the run is tried again, until the run is done. So is the number of
    steps of the run, ``num_steps``.
    """
    if not world.is_main:
        return
    last = _last(run_dir)
    failure = _last_failure(last) if state != "done" else None
    if "num_steps" in last:
        details.setdefault("num_steps", last["num_steps"])
    if state == "failed":
        failure = _count_failure(run_dir, failure, str(details.get("reason")), step)
    record = {"state": state, "step": step, "time": time.time(), "attempt": os.environ.get(ATTEMPT), **details}
    write_atomic(RunDir(run_dir).status, dump_json(record | ({"failure": failure} if failure else {})))


def read_status(run_dir: Path) -> dict[str, Any] | None:
    """Read ``status.json``; None if the run has not started.

    Raises:
        ValueError: the file was not written by fastvae.
    """
    path = RunDir(run_dir).status
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: must be JSON written by fastvae ({error}); remove it") from None
    if not isinstance(status, dict) or not {"state", "step"} <= status.keys():
        raise ValueError(f"{path}: must contain a state and a step, got {status!r}; remove it")
    return status


def fingerprint(reason: str) -> str:
    """Return twelve hex digits that do not depend on numbers in the first line (addresses, ports, sizes, steps)."""
    first_line = reason.strip().partition("\n")[0]
    return hashlib.sha256(_NUMBERS.sub("#", first_line).encode()).hexdigest()[:12]


def _last(run_dir: Path) -> dict[str, Any]:
    try:
        return read_status(run_dir) or {}
    except ValueError:  # an unreadable file is about to be replaced
        return {}


def _last_failure(last: dict[str, Any]) -> dict[str, Any] | None:
    failure = last.get("failure")
    return failure if isinstance(failure, dict) else None


def _count_failure(run_dir: Path, before: dict[str, Any] | None, reason: str, step: int) -> dict[str, Any]:
    checkpoint = RunDir(run_dir).newest_checkpoint
    failure = {"fingerprint": fingerprint(reason), "checkpoint": checkpoint.name if checkpoint else None}
    again = before is not None and all(before.get(name) == value for name, value in failure.items())
    return {**failure, "reason": reason, "step": step, "count": 1 + (before or {}).get("count", 1) * again}
