"""Rows 1 to 4: runs that are stopped or killed at any point resume and end bit-equal to an uninterrupted run."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastvae.train.run_dir.checkpoint import newest_valid
from fastvae.verify import compare
from tests import launching
from tests.faults.program import OPTIONS, Program, logged_step, wait_until
from tests.faults.table import Fault

SAVES = ("--train.steps=4", "--train.checkpoint-every=2", "--train.keep-checkpoints=1")


def newest_step(run_dir: Path) -> int:
    """Return the step of the newest checkpoint, or 0 if there is none; check that all checkpoints are valid."""

    def refuse(error: Exception) -> None:
        raise error

    newest = newest_valid(run_dir / "checkpoints", on_invalid=refuse)
    return newest.step if newest is not None else 0


def test_stop_after_every_step(fault: Fault, program: Program, tmp_path: Path) -> None:
    """Row 1. Pass: weights, optimizer, average, data position and schedules end bit-equal after a stop at any step."""
    steps = fault.times(4, 20)
    options = ("--train.schedule=constant", "--train.checkpoint-every=1000", "--train.objective.kl-warmup=10")
    program.run(tmp_path / "whole", f"--train.steps={steps}", *options)
    for step in range(1, steps):
        run_dir = tmp_path / f"stopped_{step}"
        program.run(run_dir, f"--train.steps={step}", *options)
        program.run(run_dir, f"--train.steps={steps}", *options)
        assert compare(tmp_path / "whole", run_dir) == []
    fault.row(1, "stopped after every step, resumed", injected=steps - 1, lost="0 steps")


@pytest.mark.parametrize("ranks", [1, 2])
def test_sigkill_at_random_times(fault: Fault, program: Program, tmp_path: Path, ranks: int) -> None:
    """Row 2. Pass: at most the save interval (and a save in progress) is repeated, the end is bit-equal."""
    rng, kills, every, lost = random.Random(ranks), fault.times(2, 50 if ranks == 1 else 20), 5, 0
    options = ("--train.steps=60", f"--train.checkpoint-every={every}")
    program.run(tmp_path / "whole", *options, ranks=ranks)
    done, runs = 0, 0
    while done < kills:
        run_dir = tmp_path / f"killed_{runs}"
        runs += 1
        for target in sorted(rng.randrange(1, 55) for _ in range(min(5, kills - done))):
            processes = program.train(run_dir, *options, ranks=ranks)
            wait_until(lambda d=run_dir, t=target: logged_step(d) >= t)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.02))
            before = logged_step(run_dir)
            for process in rng.sample(processes, len(processes)):
                process.kill(signal.SIGKILL)
            if -signal.SIGKILL in [process.wait() for process in processes]:
                done += 1
                lost = max(lost, before - newest_step(run_dir))
        program.run(run_dir, *options, ranks=ranks)
        assert compare(tmp_path / "whole", run_dir) == []
    assert lost <= 2 * every
    name = "SIGKILL at a random time" + ("" if ranks == 1 else f", {ranks} ranks")
    fault.row("2" if ranks == 1 else "2b", name, injected=done, lost=f"at most {lost} steps, saved every {every}")


def calls_of(program: Program, run_dir: Path, log: Path) -> list[str]:
    """Return the names of all calls that change files of the checkpoints in an undisturbed run."""
    program.run(run_dir, *SAVES, FAULT_DIR=str(run_dir / "checkpoints"), FAULT_LOG=str(log))
    return [line.split()[1] for line in log.read_text().splitlines()]


def test_sigkill_at_every_call_of_a_save(fault: Fault, program: Program, shim: Path, tmp_path: Path) -> None:
    """Row 3. Pass: the old or the new checkpoint loads, never a partial one; the resumed run ends bit-equal."""
    calls = calls_of(program, tmp_path / "whole", tmp_path / "calls.txt")
    assert {"mkdir", "open", "write", "fsync", "rename", "unlink", "rmdir"} <= set(calls)
    points = [
        (at, how)
        for at, name in enumerate(calls, 1)
        for how in ("before", "after", "torn")
        if how != "torn" or name == "write"
    ]
    if not fault.full:
        points = random.Random(0).sample(points, 3)
    for at, how in points:
        run_dir = tmp_path / "killed"
        shutil.rmtree(run_dir, ignore_errors=True)
        fault_at = {"FAULT_DIR": str(run_dir / "checkpoints"), "FAULT_AT": str(at), "FAULT_DO": how}
        assert program.run(run_dir, *SAVES, check=False, **fault_at) == [-signal.SIGKILL], (at, how)
        assert newest_step(run_dir) in (0, 2, 4)
        program.run(run_dir, *SAVES)
        assert compare(tmp_path / "whole", run_dir) == [], (at, how)
        assert not list((run_dir / "checkpoints").glob(".*"))
    fault.row(3, "SIGKILL before, in and after each call of a save", injected=len(points), lost="the save under way")


def test_power_loss_order(fault: Fault, tmp_path: Path) -> None:
    """Row 4. Pass: fsync of every file, fsync of its directory, rename, fsync of the parent, in this order."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace, run_dir = tmp_path / "trace.txt", tmp_path / "run"
    watched = "trace=openat,fsync,rename,renameat,renameat2,write"
    command = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(trace),
        "-e",
        watched,
        sys.executable,
        "-m",
        "fastvae",
        "train",
        "digits",
    ]
    words = [f"--run-dir={run_dir}", *OPTIONS, "--train.steps=1"]
    subprocess.run([*command, *words], env=launching.environment(), check=True, capture_output=True, timeout=280)
    saved = run_dir / "checkpoints" / "step_00000001"
    temporary = saved.with_name(f".{saved.name}.tmp")
    events = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]

    def last(*parts: str) -> int:
        found = [index for index, event in enumerate(events) if all(part in event for part in parts)]
        assert found, parts
        return found[-1]

    renamed = last("rename", f'"{temporary}"', f'"{saved}"')
    for path in saved.iterdir():
        name = f"<{temporary / path.name}>"
        assert last("write(", name) < last("fsync(", name) < last("fsync(", f"<{temporary}>") < renamed
    assert renamed < last("fsync(", f"<{saved.parent}>")
    fault.row(4, "order of write, fsync, rename, fsync (strace)", injected=1)
