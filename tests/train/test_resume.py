"""A stopped run goes on from its checkpoint and ends with the same bits as one never stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import launching

OPTIONS = (
    "--train.steps=400 --train.checkpoint-every=60 --train.log-every=20 --train.final-samples=1 --train.eval-every=200"
    " --model.hidden-dim 32 --train.device=cpu"
).split()


def words(run_dir: Path) -> list[str]:
    return ["train", "digits", f"--run-dir={run_dir}", *OPTIONS]


def signal_when_training(run_dir: Path, number: signal.Signals, num_processes: int) -> tuple[int, str]:
    """Start, wait until some steps are logged, send the signal, and give exit code and stderr."""
    line = launching.command(["-m", "fastvae", *words(run_dir)], num_processes)
    process = subprocess.Popen(line, env=launching.environment(), stderr=subprocess.PIPE, text=True)
    metrics = run_dir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.mark.parametrize(
    ("number", "num_processes", "exit_code"),
    [
        (signal.SIGTERM, 1, 143),
        (signal.SIGINT, 1, 130),
        (signal.SIGUSR1, 1, 138),
        (signal.SIGTERM, 2, 1),  # torchrun exits 1 whatever its workers did: status.json says how the run stands
    ],
)
def test_signal_saves_and_resume_is_bit_exact(
    tmp_path: Path, number: signal.Signals, num_processes: int, exit_code: int
) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    launching.fastvae(*words(undisturbed), num_processes=num_processes)
    code, stderr = signal_when_training(stopped, number, num_processes)
    assert code == exit_code, stderr
    status = json.loads((stopped / "status.json").read_text())
    assert status["state"] == "preempted"
    assert 0 < status["step"] < 400
    assert status["reason"] == number.name
    assert not (stopped / "model.safetensors").exists()
    result = launching.fastvae(*words(stopped), num_processes=num_processes)
    assert f"from the checkpoint of step {status['step']}" in result.stderr
    assert json.loads((stopped / "status.json").read_text())["state"] == "done"
    assert (stopped / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    for name in ("evaluation.json",):
        assert (stopped / name).read_text() == (undisturbed / name).read_text()
    assert logged(stopped) == logged(undisturbed)


def logged(run_dir: Path) -> list[tuple[str, int]]:
    """Kind and step of every record: none is missing, none is there twice."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(record["kind"], record["step"]) for record in records]


def test_the_same_command_after_the_end_changes_nothing(tmp_path: Path) -> None:
    command = ["train", "digits", f"--run-dir={tmp_path}", *OPTIONS, "--train.steps=20"]
    launching.fastvae(*command)
    weights = (tmp_path / "model.safetensors").read_bytes()
    result = launching.fastvae(*command)
    assert "already at step 20" in result.stderr
    assert (tmp_path / "model.safetensors").read_bytes() == weights
