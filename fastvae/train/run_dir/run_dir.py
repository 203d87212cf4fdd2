"""Where everything of a run lies: each file of a run directory is named here, and nowhere else. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """The paths of a run's files; none of them needs to exist.

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
        """The format of the directory, and which model and data it belongs to."""
        return self.path / "run.json"

    @property
    def status(self) -> Path:
        """How the run stands."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """One JSON object for each line of the log."""
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
        """The newest directory with a checkpoint's name, valid or not; None without any."""
        return next(iter(checkpoint_paths(self.checkpoints)), None)

    @property
    def weights(self) -> Path:
        """The weights that the final evaluation used."""
        return self.path / "model.safetensors"

    @property
    def evaluation(self) -> Path:
        """The numbers of the final evaluation."""
        return self.path / "evaluation.json"

    @property
    def data(self) -> Path:
        """Folder of what a finished run needs of its data."""
        return self.path / "data"

    @property
    def lock(self) -> Path:
        """Which process writes to the directory."""
        return self.path / "run.lock"

    @property
    def lock_guard(self) -> Path:
        """Locked by the operating system while a process reads and replaces the lock."""
        return self.path / ".run.lock.guard"

    @property
    def curves(self) -> Path:
        """Picture of the metrics over the steps."""
        return self.path / "curves.png"

    @property
    def latents(self) -> Path:
        """Picture of the latent space."""
        return self.path / "latents.png"

    @property
    def job_id(self) -> Path:
        """The Slurm job that the run was submitted as."""
        return self.path / "job_id"

    @property
    def job_script(self) -> Path:
        """The batch script of that job."""
        return self.path / "job.sbatch"

    @property
    def output(self) -> Path:
        """What the processes of ``fastvae verify-resume`` print."""
        return self.path / "output.txt"

    def rank_log(self, rank: int) -> Path:
        """The log of one process of several."""
        return self.path / "logs" / f"rank_{rank}.log"

    def examples(self, what: str, suffix: str) -> Path:
        """Examples for people, such as ``samples.png``; a folder where the kind of data has no suffix."""
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
