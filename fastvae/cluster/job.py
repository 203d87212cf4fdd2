"""Write the batch script of a run, and submit it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Annotated

import tyro

from fastvae.cluster.client import ask_slurm, job_of, queued_jobs
from fastvae.cluster.resources import share_of_a_gpu
from fastvae.train.run_dir.run_dir import RunDir

_TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Options of a run's Slurm job."""

    nodes: int = 1
    """Number of nodes."""
    gpus_per_node: int | None = None
    """Number of GPUs per node, with one process each; None trains on CPUs."""
    cpus_per_node: int | None = None
    """Number of CPU cores per node; None requests each GPU's share of a node or, without GPUs, the default of the
    cluster, which is often one core."""
    gib_per_node: int | None = None
    """Memory per node in GiB; None requests each GPU's share of a node or, without GPUs, the default of the cluster."""
    time: str | None = None
    """Time limit in Slurm's format: 90 (minutes), 24:00:00 or 3-12; at its end the job is requeued."""
    partition: str | None = None
    """Which partition."""
    account: str | None = None
    """Whose budget."""
    sbatch: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Further options of sbatch, such as --sbatch=--mem=0 --sbatch=--qos=long."""
    warning_s: int = 120
    """Seconds before the time limit at which the run saves and stops; see also --train.grace-seconds."""
    sweep: Path | None = None
    """File with one line of options per run, which are trained by a job array. None is one run."""
    at_once: int | None = None
    """Largest number of runs of a sweep at a time; None is all."""
    image: str | None = None
    """Container image with fastvae: an Apptainer file (.sif), or a name for Pyxis."""
    mounts: str | None = None
    """Folders to mount in the container besides the working directory, as in /data:/data,/scratch:/scratch."""

    def __post_init__(self) -> None:
        for name in ("nodes", "gpus_per_node", "cpus_per_node", "gib_per_node", "at_once", "warning_s"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"submit: --{name.replace('_', '-')} must be at least 1, got {value}")
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise ValueError(f"submit: --time must be in Slurm's format, as 90, 24:00:00 or 3-12, got {self.time!r}")
        if self.at_once is not None and self.sweep is None:
            raise ValueError("submit: --at-once requires --sweep FILE")
        if self.mounts is not None and self.image is None:
            raise ValueError("submit: --mounts requires --image")


def launch_directory() -> Path:
    """Return the folder of the launchers: package data of an installed fastvae, ``launch/`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "launch"
    return installed if installed.is_dir() else package.parent / "launch"


def sweep_lines(settings: Path) -> list[list[str]]:
    """Read the options of each run of a sweep.

    Raises:
        ValueError: the file is missing or empty, or has an empty line.
    """
    try:
        lines = [line.split() for line in settings.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise ValueError(
            f"submit: --sweep must name a file with a line of options for each run, got {settings}"
        ) from None
    if not lines or not all(lines):
        raise ValueError(f"submit: every line of {settings} must contain options, got {len(lines)} lines")
    return lines


def render(job: Job, run_dir: Path, words: Sequence[str]) -> str:
    """Return the batch script of a run: the packaged one with the job's directives and the run's arguments.

    Args:
        job: options of the job.
        run_dir: folder of script and logs: the run directory, or the folder of a sweep's run directories.
        words: recipe and options, as after ``fastvae train``.
    """
    launch = launch_directory()
    shipped = launch / "slurm" / ("sweep.sbatch" if job.sweep else "train.sbatch")
    shebang, *lines = shipped.read_text(encoding="utf-8").splitlines()
    variables = {"LAUNCH": str(launch), "PYTHON": sys.executable, "IMAGE": job.image, "MOUNTS": job.mounts}
    words = list(words)
    job, comments = _with_shares(job)
    if job.sweep:
        words.insert(1, str(job.sweep.resolve()))
        variables["SWEEP_DIR"] = str(run_dir)
    return "\n".join(
        [
            shebang,
            *(f"#SBATCH {option}" for option in _directives(job, run_dir, words[0])),
            *comments,
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items() if value),
            f"set -- {shlex.join(words)}",
            *(line for line in lines if not line.startswith("#SBATCH")),
            "",
        ]
    )


def log_pattern(job: Job, run_dir: Path) -> str:
    """Return the path of the logs in Slurm's format: ``%j`` is the job's ID, ``%A_%a`` the array's and the task's."""
    return f"{run_dir.resolve()}/slurm-{'%A_%a' if job.sweep else '%j'}.out"


def _with_shares(job: Job) -> tuple[Job, list[str]]:
    """Return the job with default CPU cores and memory for its GPUs, and a comment on them."""
    gives_memory = any(option.startswith("--mem") for option in job.sbatch)
    gives_cpus = any(option.startswith(("--cpus-per-", "-c")) for option in job.sbatch)
    needs_cpus, needs_memory = (
        job.cpus_per_node is None and not gives_cpus,
        job.gib_per_node is None and not gives_memory,
    )
    if job.gpus_per_node is None or not (needs_cpus or needs_memory):
        return job, []
    share = share_of_a_gpu(job.partition)
    comment = (
        f"# {share.cpus} CPU cores and {share.gib} GiB for each GPU: {share.reason}; --cpus-per-node and "
        "--gib-per-node change them"
    )
    cpus = share.cpus * job.gpus_per_node if needs_cpus else job.cpus_per_node
    gib = share.gib * job.gpus_per_node if needs_memory else job.gib_per_node
    return replace(job, cpus_per_node=cpus, gib_per_node=gib), [comment]


def _directives(job: Job, run_dir: Path, recipe: str) -> list[str]:
    asked = {
        "job-name": f"fastvae-{PurePath(recipe.partition(':')[0]).stem}",
        "output": log_pattern(job, run_dir),
        "open-mode": "append",
        "signal": f"B:USR1@{job.warning_s}",
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": job.cpus_per_node,
        "gpus-per-node": job.gpus_per_node,
        "mem": f"{job.gib_per_node}G" if job.gib_per_node else None,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "array": f"0-{len(sweep_lines(job.sweep)) - 1}" if job.sweep else None,
    }
    if job.at_once:
        asked["array"] = f"{asked['array']}%{job.at_once}"
    return ["--requeue", *(f"--{name}={value}" for name, value in asked.items() if value is not None), *job.sbatch]


def submit(script: str, run_dir: Path) -> str:
    """Write the script to the run directory and submit it; return the job's ID.

    Raises:
        ValueError: sbatch is missing or failed; or the run has a pending or running job.
    """
    before = queued_jobs().get(job_of(run_dir) or "")
    if before is not None:  # two jobs would write the same checkpoints
        raise ValueError(
            f"submit: {run_dir} must not have another job, got {before}; scancel it, or choose another --run-dir"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    path = RunDir(run_dir).job_script
    path.write_text(script, encoding="utf-8")
    job_id = ask_slurm("sbatch", "--parsable", str(path)).strip().partition(";")[0]
    RunDir(run_dir).job_id.write_text(f"{job_id}\n", encoding="utf-8")
    return job_id
