"""A run as a Slurm job: write and submit its script, report its state, classify its end."""

from fastvae.cluster.job import Job, log_pattern, render, submit, sweep_lines
from fastvae.cluster.outcome import Outcome, judge
from fastvae.cluster.report import describe_run, list_runs

__all__ = ["Job", "Outcome", "describe_run", "judge", "list_runs", "log_pattern", "render", "submit", "sweep_lines"]
