"""The batch scripts' calls of Slurm and their reaction to the run's end, with fake Slurm commands and Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import launching

SCRIPTS = launching.ROOT / "launch" / "slurm"
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NODELIST": "c[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "LAUNCH": str(launching.ROOT / "launch"),
}
PROGRAMS = {
    "srun": 'echo "srun $*" >> calls; exit 1',  # torchrun's exit code for every stop
    "scontrol": 'echo "scontrol $*" >> calls; [ "$1" = show ] && echo c1 || true',
    "python3": 'echo "outcome of $FASTVAE_ATTEMPT: $*" >> calls; exit "$OUTCOME"',
}


def run_script(folder: Path, *words: str, outcome: int = 0, **variables: str) -> tuple[int, list[str]]:
    """Run a script; return its exit code, its calls and its errors."""
    for name, body in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "IMAGE", "CONTAINER")}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", str(SCRIPTS / words[0]), *words[1:]],
        env={**inherited, **JOB, "PATH": path, "OUTCOME": str(outcome), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    calls = folder / "calls"
    return result.returncode, calls.read_text().splitlines() if calls.exists() else [result.stderr]


@pytest.mark.parametrize(
    ("outcome", "restarts", "code", "is_queued_again"),
    [(0, "0", 0, False), (1, "1", 1, False), (75, "3", 0, True), (75, "100", 75, False), (2, "0", 2, False)],
)
def test_the_outcome_decides_whether_the_job_is_requeued(
    tmp_path: Path, outcome: int, restarts: str, code: int, is_queued_again: bool
) -> None:
    ended, calls = run_script(
        tmp_path, "train.sbatch", "digits", "--seed", "3", outcome=outcome, SLURM_RESTART_COUNT=restarts
    )
    assert ended == code
    assert f"outcome of 7.{restarts}: -m fastvae outcome digits --seed 3" in calls
    assert ("scontrol requeue 7" in calls) is is_queued_again


def test_a_pyxis_image_is_used(tmp_path: Path) -> None:
    """Training runs in the image on every node, and its outcome is determined in the image on one node."""
    variables = {"IMAGE": "registry#fastvae", "MOUNTS": "/data:/data", "SLURM_CPUS_PER_TASK": "4"}
    _, calls = run_script(tmp_path, "train.sbatch", "digits", **variables)
    mounts = f"{tmp_path}:{tmp_path},{JOB['LAUNCH']}:{JOB['LAUNCH']},/data:/data"
    options = (
        "srun --kill-on-bad-exit=0 --label --cpus-per-task=4 --container-image=registry#fastvae "
        f"--container-mounts={mounts} --container-workdir={tmp_path}"
    )
    assert f"{options} bash {JOB['LAUNCH']}/multinode.sh digits" in calls
    assert f"{options} --nodes=1 --ntasks=1 python3 -m fastvae outcome digits" in calls


def test_an_apptainer_image_is_used_with_gpus(tmp_path: Path) -> None:
    _, calls = run_script(tmp_path, "train.sbatch", "digits", IMAGE="/images/fastvae.sif", SLURM_GPUS_ON_NODE="8")
    assert any(" apptainer exec --bind " in call and " --nv /images/fastvae.sif bash " in call for call in calls)


def test_a_task_of_a_sweep_uses_its_line(tmp_path: Path) -> None:
    (tmp_path / "rates.txt").write_text("--train.lr 1e-3\n--train.lr 1e-4 --seed 2\n")
    words = ("sweep.sbatch", "digits", "rates.txt", "--train.steps=5")
    _, calls = run_script(tmp_path, *words, outcome=75, SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="1")
    assert "scontrol requeue 7_1" in calls  # 7 would requeue every task
    expected = "multinode.sh digits --train.steps=5 --train.lr 1e-4 --seed 2 --run-dir runs/rates/1"
    assert any(call.endswith(expected) for call in calls)
    (tmp_path / "calls").unlink()
    code, error = run_script(tmp_path, *words, SLURM_ARRAY_TASK_ID="2")
    assert code == 2
    assert "rates.txt has no line 3" in error[0]


@pytest.mark.parametrize("script", ["train.sbatch", "sweep.sbatch"])
def test_scripts_print_their_usage_without_arguments(tmp_path: Path, script: str) -> None:
    code, error = run_script(tmp_path, script)
    assert code == 2
    assert f"launch/slurm/{script} RECIPE" in error[0]


def test_errors_name_missing_files_and_variables(tmp_path: Path) -> None:
    code, calls = run_script(tmp_path, "train.sbatch", "digits", LAUNCH="/nowhere")
    assert code == 2
    assert not any("srun" in call for call in calls)
