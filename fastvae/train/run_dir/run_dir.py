"""The paths of all files of a run directory. Every file name is defined here. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BEST = "best"
"""The copy of the generator's weights in a checkpoint that has those of the best evaluation."""


@dataclass(frozen=True)
class RunDir:
    """The paths of a run's files; the files need not exist.

    Args:
        path: the run directory.
    """

    path: Path

    @property
    def config(self) -> Path:
        """All settings of the run."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """The format of the directory, and the model and data that it belongs to."""
        return self.path / "run.json"

    @property
    def status(self) -> Path:
        """State of the run."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """Log: one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def newest_checkpoint(self) -> Path | None:
        """The newest directory with a checkpoint's name, valid or not; None if there is none."""
        return next(iter(checkpoint_paths(self.checkpoints)), None)

    @property
    def weights(self) -> Path:
        """The weights that the final evaluation used."""
        return self.path / "model.safetensors"

    @property
    def evaluation(self) -> Path:
        """Results of the final evaluation."""
        return self.path / "evaluation.json"

    @property
    def data(self) -> Path:
        """Folder of the data files that a finished run requires."""
        return self.path / "data"

    @property
    def anomalies(self) -> Path:
        """What is usual among the training rows of a table; anomaly scores compare rows with it."""
        return self.path / "anomalies.safetensors"

    @property
    def logger_ids(self) -> Path:
        """The IDs of the run in tracking libraries."""
        return self.path / "loggers.json"

    @property
    def lock(self) -> Path:
        """Lock: the process that writes to the directory."""
        return self.path / "run.lock"

    @property
    def lock_guard(self) -> Path:
        """File that is locked by the operating system while a process replaces the lock."""
        return self.path / ".run.lock.guard"

    @property
    def curves(self) -> Path:
        """Figure of the metrics over the steps."""
        return self.path / "curves.png"

    @property
    def latents(self) -> Path:
        """Figure of the latent space."""
        return self.path / "latents.png"

    @property
    def job_id(self) -> Path:
        """ID of the Slurm job of the run."""
        return self.path / "job_id"

    @property
    def job_script(self) -> Path:
        """The batch script of that job."""
        return self.path / "job.sbatch"

    @property
    def output(self) -> Path:
        """Output of the processes of ``fastvae verify-resume``."""
        return self.path / "output.txt"

    def rank_log(self, rank: int) -> Path:
        """Return the path of the log of one of several processes."""
        return self.path / "logs" / f"rank_{rank}.log"

    def examples(self, what: str, suffix: str) -> Path:
        """Return the path of rendered examples, such as ``samples.png``; a folder if the kind of data has no suffix."""
        return self.path / f"{what}{suffix}"


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f"step_{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step_"))


def checkpoint_paths(root: Path) -> list[Path]:
    """Everything in the folder ``root`` that has a checkpoint's name, newest first."""
    found = [path for path in root.glob("step_*") if path.name.removeprefix("step_").isdecimal()]
    return sorted(found, key=step_of, reverse=True)
