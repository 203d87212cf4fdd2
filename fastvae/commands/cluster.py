"""``fastvae submit``, ``status`` and ``outcome``: runs as Slurm jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastvae import cluster
from fastvae.commands.parsing import parse_some
from fastvae.commands.user_file import parse_run_or_file
from fastvae.plugins import plugin_words
from fastvae.run import RunConfig
from fastvae.settings import Settings
from fastvae.train.run_dir.status import ATTEMPT


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(cluster.Job):
    """Options of the Slurm job. Every option of `fastvae train RECIPE` is accepted as well."""

    dry_run: bool = False
    """Print the script without submitting it."""


@dataclass(frozen=True, kw_only=True)
class OutcomeOptions(Settings):
    """Options that the batch script passes about its job, in addition to those of `fastvae train`."""

    warned: bool = False
    """Whether the job received Slurm's signal before its time limit."""


@dataclass(frozen=True)
class Status(Settings):
    """Show the state of a run and its Slurm job, or of all runs in runs/ if no run directory is given."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """The run directory."""

    def __call__(self) -> int:
        print(cluster.list_runs(Path("runs")) if self.run is None else cluster.describe_run(self.run))
        return 0


def submit(words: Sequence[str]) -> int:
    """Submit a recipe's run as a Slurm job: fastvae submit RECIPE --nodes 4 --gpus-per-node 8 --time 24:00:00."""
    recipe, words = _recipe_first("submit", words)
    job, run_words = parse_some(SubmitOptions, words, "submit RECIPE")
    lines = cluster.sweep_lines(job.sweep) if job.sweep else [[]]
    configs = [_run_config("submit", recipe, [*run_words, *line], SubmitOptions) for line in lines]
    run_dir = configs[0].directory
    if job.sweep and configs[0].run_dir is None:
        run_dir = Path("runs") / job.sweep.stem
    script = cluster.render(job, run_dir, [recipe, *run_words, *plugin_words()])
    if job.dry_run:
        print(script, end="")
        return 0
    job_id = cluster.submit(script, run_dir)
    print(f"job {job_id}: {cluster.log_pattern(job, run_dir).replace('%j', job_id).replace('%A', job_id)}")
    print(f"fastvae status {run_dir}    # its state;   scancel {job_id}    # stops it")
    return 0


def outcome(words: Sequence[str]) -> int:
    """Tell the batch script how its run ended: exit code 0 done, 1 permanent failure, 75 restart it."""
    recipe, words = _recipe_first("outcome", words)
    options, run_words = parse_some(OutcomeOptions, words, "outcome RECIPE")
    run_dir = _run_config("outcome", recipe, run_words, OutcomeOptions).directory
    code, reason = cluster.judge(run_dir, os.environ.get(ATTEMPT), warned=options.warned)
    print(f"{run_dir}: {code.name.lower()}: {reason}")
    return int(code)


def _recipe_first(command: str, words: Sequence[str]) -> tuple[str, list[str]]:
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        raise ValueError(f"{command}: a recipe must be the first argument, such as digits; see fastvae recipes")
    return ("RECIPE", ["--help"]) if words[0] in ("-h", "--help") else (words[0], list(words[1:]))


def _run_config(command: str, recipe: str, words: Sequence[str], options: type) -> RunConfig:
    return parse_run_or_file(command, recipe, words, other_kinds=(options,))
