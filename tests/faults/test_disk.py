"""Row 7: a disk that is full, fails or is read-only. The error is named, the old checkpoint is intact."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastvae.train.run_dir.checkpoint import read_checkpoint
from tests.faults.program import Program
from tests.faults.table import Fault

MESSAGES = {"ENOSPC": "No space left on device", "EIO": "Input/output error", "EROFS": "Read-only file system"}
STEPS = ("--train.steps=2", "--train.checkpoint-every=2")
MORE = ("--train.steps=6", "--train.checkpoint-every=2", "--train.schedule=constant")


def left_in(run_dir: Path) -> set[str]:
    return {path.name for path in (run_dir / "checkpoints").iterdir()}


@pytest.mark.parametrize("error", MESSAGES)
def test_a_failing_system_call_of_a_save_is_reported(
    fault: Fault, program: Program, shim: Path, tmp_path: Path, error: str
) -> None:
    """Pass: a named error, an exit code, the old checkpoint intact, no partial files; with `warn` the run continues."""
    if not fault.full and error == "EROFS":
        pytest.skip("in `make faults` only")
    run_dir = tmp_path / "run"
    calls = ("mkdir", "open", "write", "fsync", "rename") if fault.full else ("write",)
    injected = 0
    program.run(run_dir, *MORE, "--train.steps=2")
    for call in calls:
        where = {"FAULT_DIR": str(run_dir / "checkpoints"), "FAULT_CALL": call, "FAULT_AT": "1", "FAULT_DO": error}
        [process] = program.train(run_dir, *MORE, **where)
        assert process.wait() == 2, process.text()
        text = process.text()
        assert "the checkpoint of step 4 could not be written: [Errno" in text, text
        assert MESSAGES[error] in text.splitlines()[-1], text
        assert left_in(run_dir) == {"step_00000002"}
        read_checkpoint(run_dir / "checkpoints" / "step_00000002")
        process.output.unlink()
        injected += 1
    [process] = program.train(run_dir, *MORE, "--train.on-save-error=warn", **where)
    assert process.wait() == 0, process.text()
    assert MESSAGES[error] in process.text()
    assert left_in(run_dir) == {"step_00000002", "step_00000006"}
    fault.row(7, f"a failing call of a save: {error}", injected=injected + 1, lost="that save")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_fails_the_save_only(fault: Fault, program: Program, small_disk: Path) -> None:
    """Pass: as above, on a disk that is actually full; once there is space the same command resumes."""
    run_dir, ballast = small_disk / "run", small_disk / "ballast"
    wide = ("--model.hidden-dim", "400")
    program.run(run_dir, *MORE, *wide, "--train.steps=2")
    room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    ballast.write_bytes(bytes(room - 200_000))
    [process] = program.train(run_dir, *MORE, *wide)
    assert process.wait() == 2
    assert "No space left on device" in process.text().splitlines()[-1], process.text()
    assert left_in(run_dir) == {"step_00000002"}
    read_checkpoint(run_dir / "checkpoints" / "step_00000002")
    ballast.unlink()
    program.run(run_dir, *MORE, *wide)
    fault.row(7, "a full disk (4 MiB tmpfs)", injected=1, lost="that save")


def test_a_read_only_disk_is_refused(fault: Fault, program: Program, small_disk: Path) -> None:
    """Pass: a one-line error before any computation; nothing is changed."""
    run_dir = small_disk / "run"
    program.run(run_dir, *STEPS)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    process = program.start("train", "digits", f"--run-dir={run_dir}", output=small_disk.parent / "said.txt")
    assert process.wait() == 2
    assert "Read-only file system" in process.text()
    assert "Traceback" not in process.text()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    read_checkpoint(run_dir / "checkpoints" / "step_00000002")
    fault.row(7, "a read-only disk", injected=1, lost="0 steps")
