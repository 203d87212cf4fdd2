"""Rows 8 and 9: stop signals save once and end within the grace time; a run that cannot save ends at its deadline."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from fastvae.train.run_dir.checkpoint import read_checkpoint
from fastvae.train.run_dir.run_dir import checkpoint_paths
from fastvae.verify import compare
from tests.faults.program import Program
from tests.faults.table import Fault
from tests.once import once

OPTIONS = ("--train.steps=12", "--train.checkpoint-every=100", "--train.eval-every=4")
PLACES = {
    "forward": "fastvae.train.step:forward 6",
    "all-reduce": "torch.distributed:all_reduce 30",
    "save": "fastvae.train.run_dir.saving:write_tensors 1",
    "evaluation": "fastvae.train.loop:evaluate_set 1",
    "final evaluation": "fastvae.train.loop:evaluate_set 4",
}


@pytest.fixture(scope="module")
def whole(program: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The undisturbed run, of one rank and of two."""

    def make(root: Path) -> None:
        for ranks in (1, 2):
            program.run(root / f"whole{ranks}", *OPTIONS, ranks=ranks)

    root = once(tmp_path_factory, "signals", make)
    return {ranks: root / f"whole{ranks}" for ranks in (1, 2)}


@pytest.mark.parametrize("place", PLACES)
def test_a_stop_signal_saves_once(
    fault: Fault, program: Program, whole: dict[int, Path], tmp_path: Path, place: str
) -> None:
    """Row 8. Pass: one save at the step's end, exit code 143 or 138, a bit-equal end after the resume."""
    if not fault.full and place in ("forward", "evaluation"):
        pytest.skip("in `make faults` only")
    ranks = 2 if place == "all-reduce" else 1
    numbers = (signal.SIGTERM, signal.SIGUSR1) if fault.full else (signal.SIGTERM,)
    options = ("--train.checkpoint-every=5",) if place == "save" else ()
    for number in numbers:
        run_dir = tmp_path / number.name
        codes = program.run(
            run_dir, *OPTIONS, *options, ranks=ranks, check=False, FAULT_HOOK=f"{PLACES[place]} {number.name}"
        )
        assert codes == [128 + number] * ranks, run_dir.with_name(f"{run_dir.name}.rank0.txt").read_text()
        status = json.loads((run_dir / "status.json").read_text())
        assert (status["state"], status["reason"]) == ("preempted", number.name)
        newest = checkpoint_paths(run_dir / "checkpoints")[0]
        assert read_checkpoint(newest).step == status["step"]
        assert not list((run_dir / "checkpoints").glob(".*"))
        program.run(run_dir, *OPTIONS, *options, ranks=ranks)
        assert compare(whole[ranks], run_dir) == []
    fault.row(8, f"stop signal in {place}", injected=len(numbers), lost="0 steps")


def hang_in_save(program: Program, run_dir: Path, *options: str, hook: str) -> tuple[int, str]:
    """Run with a second save that never returns, and send a stop signal; return exit code and output."""
    steps = ("--train.steps=40", "--train.checkpoint-every=4")
    program.run(run_dir, *steps, "--train.steps=4", "--train.schedule=constant")
    where = {"FAULT_DIR": str(run_dir / "checkpoints"), "FAULT_CALL": "fsync", "FAULT_AT": "1", "FAULT_DO": "sleep"}
    output = run_dir.with_name(f"{run_dir.name}.rank0.txt")
    output.unlink()
    [process] = program.train(run_dir, *steps, "--train.schedule=constant", *options, FAULT_HOOK=hook, **where)
    code = process.wait()
    assert [path.name for path in checkpoint_paths(run_dir / "checkpoints")] == ["step_00000004"]
    read_checkpoint(run_dir / "checkpoints" / "step_00000004")
    return code, output.read_text()


def test_a_hanging_save_ends_at_the_deadline(fault: Fault, program: Program, shim: Path, tmp_path: Path) -> None:
    """Row 9. Pass: exit at the deadline with a code of its own, the old checkpoint intact; the same command resumes."""
    hook = "fastvae.train.step:forward 6 SIGTERM"
    code, text = hang_in_save(program, tmp_path / "run", "--train.grace-seconds=2", hook=hook)
    assert code == 143, text
    assert "SIGTERM: the run has not stopped 2 s after a stop signal" in text
    program.run(tmp_path / "run", "--train.steps=40", "--train.schedule=constant")
    fault.row(9, "a save that hangs, and a stop signal", injected=1, lost="1 save interval")


def test_a_second_signal_ends_the_run_at_once(fault: Fault, program: Program, shim: Path, tmp_path: Path) -> None:
    """Row 9. Pass: the second request ends the run at once, with the old checkpoint intact."""
    hook = "fastvae.train.step:forward 6 SIGTERM SIGTERM"
    code, text = hang_in_save(program, tmp_path / "run", hook=hook)
    assert code == 143, text
    assert "SIGTERM: a second stop signal" in text
    fault.row(9, "a second stop signal", injected=1, lost="1 save interval")
