"""Row 17: a run directory is used by one run at a time."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fastvae.train.run_dir.lock import STALE_S, hold, this_process
from fastvae.train.run_dir.run_dir import RunDir
from tests.faults.program import Program, logged_step, wait_until
from tests.faults.table import Fault

LONG = ("--train.steps=100000", "--train.checkpoint-every=50")


def test_a_second_run_in_a_directory_is_refused(fault: Fault, program: Program, tmp_path: Path) -> None:
    """Pass: the second run is refused and names the first; after the first is killed, the next reports its takeover."""
    run_dir = tmp_path / "run"
    [first] = program.train(run_dir, *LONG)
    wait_until(lambda: logged_step(run_dir) >= 60)
    second = program.start("train", "digits", f"--run-dir={run_dir}", output=tmp_path / "second.txt")
    assert second.wait() == 2
    assert second.text().count("\n") == 1
    assert f"{run_dir} is in use by process {first.pid} on " in second.text()
    first.kill(signal.SIGKILL)
    first.wait()
    [third] = program.train(run_dir, *LONG)
    before = logged_step(run_dir)
    wait_until(lambda: "took over" in third.text() and logged_step(run_dir) > before)
    assert f"took over {run_dir} from process {first.pid} on " in third.text()
    assert "that process has ended" in third.text()
    third.kill(signal.SIGTERM)
    assert third.wait() == 143
    assert not (RunDir(run_dir).lock).exists()
    fault.row(17, "two jobs, one directory; then the first is killed", injected=2, lost="1 save interval")


def leave_lock(run_dir: Path, *, age_s: float = 0.0, **changes: Any) -> None:
    """Write a lock file like that of another process."""
    run_dir.mkdir(exist_ok=True)
    lock = RunDir(run_dir).lock
    lock.write_text(json.dumps({**this_process(), "token": "theirs", **changes}))
    os.utime(lock, (time.time() - age_s,) * 2)


SLURM = {"name": "Slurm job 7", "restart": [0, 0]}
STALE: dict[str, dict[str, Any]] = {
    "another host, silent for a minute": {"boot": "another", "host": "node9", "age_s": STALE_S + 1},
    "this host, the number was given to another process": {"started": 1},
    "another container of this host, silent": {"pid_namespace": "pid:[1]", "age_s": STALE_S + 1},
    "the same Slurm job before it was requeued": {"boot": "another", "host": "node9", "launch": SLURM},
}
ALIVE: dict[str, dict[str, Any]] = {
    "another host, a moment ago": {"boot": "another", "host": "node9"},
    "this host, this process": {"age_s": 3600.0},
    "another container of this host": {"pid_namespace": "pid:[1]"},
    "another Slurm job": {"boot": "another", "launch": {**SLURM, "name": "Slurm job 6"}},
}


@pytest.fixture(autouse=True)
def requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")


@pytest.mark.parametrize("case", STALE)
def test_a_stale_lock_is_taken_over(fault: Fault, tmp_path: Path, case: str) -> None:
    """Pass: taken over, with a message that names the process and the reason."""
    leave_lock(tmp_path / "run", **STALE[case])
    said: list[str] = []
    with hold(tmp_path / "run", report=said.append) as lock:
        lock.check()
    assert len(said) == 1
    assert said[0].startswith(f"took over {tmp_path / 'run'} from process ")
    fault.row(17, f"stale lock: {case}", injected=1)


@pytest.mark.parametrize("case", ALIVE)
def test_the_lock_of_a_live_process_is_kept(fault: Fault, tmp_path: Path, case: str) -> None:
    """Pass: refused, and the lock is unchanged."""
    leave_lock(tmp_path / "run", **ALIVE[case])
    before = (RunDir(tmp_path / "run").lock).read_text()
    with (
        pytest.raises(ValueError, match=r"is in use by process \d+ on .*choose another --run-dir"),
        hold(tmp_path / "run", report=print),
    ):
        pass
    assert (RunDir(tmp_path / "run").lock).read_text() == before
    fault.row(17, f"live lock: {case}", injected=1)


def test_a_truncated_lock_expires_by_age(fault: Fault, tmp_path: Path) -> None:
    """Pass: a lock truncated by a crash expires by its age, like that of a process on another host."""
    RunDir(tmp_path).lock.write_text('{"host": "no')
    with pytest.raises(ValueError, match="an unidentified process"), hold(tmp_path, report=print):
        pass
    os.utime(RunDir(tmp_path).lock, (time.time() - STALE_S - 1,) * 2)
    with hold(tmp_path, report=print) as lock:
        lock.check()
    fault.row(17, "a torn lock", injected=1)


def test_a_suspended_run_does_not_write_after_a_takeover(fault: Fault, tmp_path: Path) -> None:
    """Pass: a run whose lock was taken over during its suspension stops before it publishes, and keeps the new lock."""
    with hold(tmp_path, report=print) as lock:
        leave_lock(tmp_path)
        with pytest.raises(RuntimeError, match="was taken over by process"):
            lock.check()
    assert json.loads(RunDir(tmp_path).lock.read_text())["token"] == "theirs"
    fault.row(17, "woken up after a takeover", injected=1)
