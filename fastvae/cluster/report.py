"""Reports on runs from their directories and Slurm's queue. Slurm's accounting (sacct) is not needed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvae.cluster.client import ask_slurm, job_of, queued_jobs
from fastvae.train.run_dir.record import read_record
from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.status import read_status


def describe_run(run_dir: Path) -> str:
    """State, reason, failures, newest checkpoint, last metrics and Slurm job of a run, one per line.

    Raises:
        ValueError: the directory contains no run, or one of another format, or Slurm does not answer.
    """
    read_record(run_dir)  # refuses a directory of another format
    status, job_id = read_status(run_dir), job_of(run_dir)
    if status is None and job_id is None:
        name = RunDir(run_dir).status.name
        raise ValueError(f"status: {run_dir} must contain a run ({name}) or a submitted job; see `fastvae submit`")
    lines = {"run": str(run_dir), **_state_lines(run_dir, status)}
    if job_id is not None:
        lines["job"] = describe_job(job_id)
    return "\n".join(f"{name:11} {text}" for name, text in lines.items())


def list_runs(root: Path) -> str:
    """Return the runs in a folder, including those of sweeps, one per line, with their jobs in squeue."""
    signs = (RunDir(root).status.name, RunDir(root).job_id.name)
    runs = sorted({path.parent for depth in ("*", "*/*") for name in signs for path in root.glob(f"{depth}/{name}")})
    if not runs:
        raise ValueError(f"status: no runs below {root}; give a run directory, or train one: fastvae train digits")
    jobs = {run: job_of(run) for run in runs}
    queue, unknown = _queue() if any(jobs.values()) else ({}, [])
    width = max(len(str(run)) for run in runs)
    lines = [f"{run!s:{width}}  {_summary_or_reason(run):32} {queue.get(jobs[run] or '', '')}" for run in runs]
    return "\n".join(line.rstrip() for line in [*lines, *unknown])


def _queue() -> tuple[dict[str, str], list[str]]:
    """Return the lines of squeue, and a line that says why there are none if Slurm does not answer."""
    try:
        return queued_jobs(), []
    except ValueError as error:
        return {}, [f"the state of the jobs is unknown: {' '.join(str(error).split())[:200]}"]


def _summary_or_reason(run_dir: Path) -> str:
    """The summary of a run, or why there is none, so that a list still shows the other runs."""
    try:
        read_record(run_dir)
    except ValueError as error:
        return str(error).removeprefix(f"{run_dir} ")
    return _summary(run_dir)


def describe_job(job_id: str) -> str:
    """Return a job's state from ``scontrol``, which drops jobs some minutes after their end."""
    if shutil.which("scontrol") is None:
        return f"{job_id}: scontrol is not on PATH, so its state is unknown"
    try:
        shown = ask_slurm("scontrol", "--oneliner", "show", "job", job_id)
    except ValueError as error:
        if "Invalid job id" in str(error):
            return f"{job_id}: no longer known to Slurm (it has ended)"
        raise
    tasks = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in shown.splitlines() if line]
    return "\n            ".join(_describe_task(task) for task in tasks)


def _describe_task(job: Mapping[str, str]) -> str:
    name = f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if "ArrayTaskId" in job else job["JobId"]
    why = "" if job.get("Reason") in (None, "None") else f" ({job['Reason']})"
    where = "" if job.get("NodeList") in (None, "(null)", "") else f" on {job['NodeList']}"
    return (
        f"{name} {job['JobState']}{why}{where}, {job['RunTime']} of {job['TimeLimit']}, "
        f"queued again {job.get('Restarts', '0')} times; log {job.get('StdOut')}"
    )


def _state_lines(run_dir: Path, status: Mapping[str, Any] | None) -> dict[str, str]:
    if status is None:
        return {"state": "not begun"}
    age_s = max(0.0, time.time() - float(status.get("time", time.time())))
    reason = f": {status['reason']}" if status.get("reason") else ""
    lines = {"state": f"{_summary(run_dir)}{reason} (written {age_s:,.0f} s ago)"}
    failure = status.get("failure")
    if failure:
        lines["failure"] = f"{failure['count']} x since {failure['checkpoint'] or 'the start'}: {failure['reason']}"
    checkpoint = RunDir(run_dir).newest_checkpoint
    if checkpoint is not None:
        lines["checkpoint"] = checkpoint.name
    metrics = _last_metrics(run_dir)
    if metrics:
        lines["metrics"] = metrics
    return lines


def _summary(run_dir: Path) -> str:
    """State and step, such as ``running, step 1200 of 6000``."""
    status = read_status(run_dir)
    if status is None:
        return "not begun"
    return f"{status['state']}, step {status['step']} of {status.get('num_steps', '?')}"


def _last_metrics(run_dir: Path) -> str | None:
    """The last whole record of ``metrics.jsonl``; a running run may have an incomplete line at its end."""
    path = RunDir(run_dir).metrics
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    if not lines:
        return None
    record = json.loads(lines[-1])
    numbers = "  ".join(f"{name} {value:.5g}" for name, value in record.items() if isinstance(value, float))
    return f"{record['kind']} {record['step']}  {numbers}"
