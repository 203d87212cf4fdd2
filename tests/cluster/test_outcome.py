"""The outcome of a batch job's run according to status.json."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from fastvae import cli
from fastvae.cluster import Outcome, judge
from fastvae.distributed import World
from fastvae.train.run_dir.status import write_status


class Say(Protocol):
    def __call__(self, state: str, reason: str | None = None, *, start: int = 0) -> None: ...


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Write status.json like the trainer in a given start of job 7."""

    def write(state: str, reason: str | None = None, *, start: int = 0) -> None:
        monkeypatch.setenv("FASTVAE_ATTEMPT", f"7.{start}")
        write_status(tmp_path, World(), state, 40, reason=reason)

    return write


def test_a_completed_run_is_not_restarted(say: Say, tmp_path: Path) -> None:
    say("done", "all steps done")
    assert judge(tmp_path, "7.0", warned=True)[0] is Outcome.DONE


def test_a_stopped_run_is_restarted_each_time(say: Say, tmp_path: Path) -> None:
    for start in range(5):
        say("preempted", "SIGUSR1", start=start)
        outcome, reason = judge(tmp_path, f"7.{start}", warned=True)
        assert outcome is Outcome.AGAIN
        assert "SIGUSR1 at step 40" in reason


def test_the_same_failure_twice_is_final(say: Say, tmp_path: Path) -> None:
    say("failed", "OSError: no space on /data, 3 bytes")
    assert judge(tmp_path, "7.0", warned=False)[0] is Outcome.AGAIN
    say("running", start=1)
    say("failed", "OSError: no space on /data, 8 bytes", start=1)
    outcome, reason = judge(tmp_path, "7.1", warned=False)
    assert outcome is Outcome.FAILED
    assert "2 times since the start: OSError" in reason


def test_a_different_failure_is_retried(say: Say, tmp_path: Path) -> None:
    say("failed", "OSError: no space")
    say("failed", "RuntimeError: Connection closed by peer", start=1)
    assert judge(tmp_path, "7.1", warned=False)[0] is Outcome.AGAIN


def test_an_end_without_a_status_counts_as_a_failure(say: Say, tmp_path: Path) -> None:
    """Killed for memory: the trainer could not write a status."""
    say("running")
    assert judge(tmp_path, "7.0", warned=False)[0] is Outcome.AGAIN
    say("running", start=1)
    outcome, reason = judge(tmp_path, "7.1", warned=False)
    assert outcome is Outcome.FAILED
    assert "without a recorded reason" in reason


def test_a_job_that_never_trains_is_not_retried_indefinitely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "never"
    monkeypatch.setenv("FASTVAE_ATTEMPT", "7.0")
    assert judge(run_dir, "7.0", warned=True)[0] is Outcome.AGAIN  # after the early warning: not a failure
    assert judge(run_dir, "7.0", warned=False)[0] is Outcome.AGAIN
    assert judge(run_dir, "7.1", warned=False)[0] is Outcome.FAILED


def test_the_status_of_an_earlier_start_is_ignored(say: Say, tmp_path: Path) -> None:
    """A completed run gets more steps, and the job fails before the trainer starts."""
    say("done", "all steps done")
    assert judge(tmp_path, "8.0", warned=False)[0] is Outcome.AGAIN


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("preempted", 75)])
def test_the_command_returns_the_outcome_as_its_exit_code(say: Say, tmp_path: Path, state: str, code: int) -> None:
    say(state, "SIGUSR1")
    assert cli.main(["outcome", "digits", "--train.steps", "50", f"--run-dir={tmp_path}", "--warned"]) == code


def test_usage_errors_are_not_retried(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["outcome", "digits", "--train.stepps=3"]) == 2
    assert "--train.steps" in capsys.readouterr().err
