"""A stopped run resumes from its checkpoint and ends bit-equal to an uninterrupted run."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests import held, launching, runs
from tests.faults.program import Program, rank_environment, wait_until
from tests.once import once
from tests.runs import free_port

HELD = "--plugin=tests.held"
OPTIONS = (
    "--train.steps=400 --train.checkpoint-every=60 --train.log-every=20 --train.final-samples=1 --train.eval-every=5%"
    " --model.hidden-dim 32 --train.device=cpu --train.objective.kl-warmup=1ep"
    " --train.keep-best --train.early-stopping.patience=100 --train.plateau.patience=1"
).split()


def words(run_dir: Path) -> list[str]:
    return ["train", "digits", f"--run-dir={run_dir}", *OPTIONS]


def run(program: Program, run_dir: Path, *options: str, ranks: int = 1) -> str:
    """Run to the end in processes with torchrun's environment; return the output of rank 0."""
    port, processes = free_port(), []
    for rank in range(ranks):
        output = run_dir.with_name(f"{run_dir.name}{rank}.txt")
        place = rank_environment(rank, ranks, port)
        processes.append(program.start(*words(run_dir), *options, output=output, **place))
    assert [process.wait() for process in processes] == [0] * ranks, processes[0].text()
    return processes[0].text()


@pytest.fixture(scope="module")
def undisturbed(program: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """An uninterrupted run of one process and of two."""

    def make(root: Path) -> None:
        for ranks in (1, 2):
            run(program, root / f"ranks{ranks}", ranks=ranks)

    root = once(tmp_path_factory, "undisturbed", make)
    return {ranks: root / f"ranks{ranks}" for ranks in (1, 2)}


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_saves_and_the_resumed_run_is_bit_equal(
    program: Program, undisturbed: dict[int, Path], tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    hook = f"fastvae.train.step:forward 100 {number.name}"
    process = program.start(*words(tmp_path / "stopped"), output=tmp_path / "output.txt", FAULT_HOOK=hook)
    assert process.wait() == exit_code, process.text()
    assert_goes_on(program, tmp_path / "stopped", undisturbed[1], number)


def test_signal_to_torchrun(program: Program, undisturbed: dict[int, Path], tmp_path: Path) -> None:
    """torchrun's exit code is always 1: status.json contains the state of the run."""
    line = launching.command(["-m", "fastvae", *words(tmp_path / "stopped"), HELD], 2)
    hold = tmp_path / "hold"
    environment = launching.environment() | held.environment(hold)
    process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: process.poll() is not None or held.all_have("held", hold, ranks=2))
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: process.poll() is not None or held.all_have("heard", hold, ranks=2))
    held.release(hold)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert_goes_on(program, tmp_path / "stopped", undisturbed[2], signal.SIGTERM, HELD, ranks=2)


def assert_goes_on(
    program: Program, stopped: Path, undisturbed: Path, number: signal.Signals, *options: str, ranks: int = 1
) -> None:
    """Check that the stopped run was saved and that the same command completes it, bit-equal to the undisturbed run."""
    status = runs.status(stopped)
    assert status["state"] == "preempted"
    assert status["step"] in (100, 101)  # the step at which the signal came, or the next
    assert status["reason"] == number.name
    assert not (stopped / "model.safetensors").exists()
    assert f"from the checkpoint of step {status['step']}" in run(program, stopped, *options, ranks=ranks)
    assert runs.status(stopped)["state"] == "done"
    for name in ("model.safetensors", "evaluation.json"):
        assert (stopped / name).read_bytes() == (undisturbed / name).read_bytes()
    assert logged(stopped) == logged(undisturbed)


def logged(run_dir: Path) -> list[tuple[str, int]]:
    """Return kind and step of every record; check that none is missing or repeated."""
    return [(record["kind"], record["step"]) for record in runs.metrics(run_dir)]


def test_the_same_command_after_the_end_changes_nothing(program: Program, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    said = []
    for name in ("first", "second"):
        process = program.start(*words(run_dir), "--train.steps=20", output=tmp_path / name)
        assert process.wait() == 0, process.text()
        said.append(((run_dir / "model.safetensors").read_bytes(), process.text()))
    assert said[0][0] == said[1][0]
    assert "already at step 20" in said[1][1]
