"""`fastvae status`: the state of a run according to its directory and Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastvae import cli
from fastvae.distributed import World
from fastvae.train.run_dir.record import write_record
from fastvae.train.run_dir.status import write_status

SHOWN = (
    "JobId=31 JobName=fastvae-digits Restarts=2 JobState=RUNNING Reason=None RunTime=00:10:02 TimeLimit=1-00:00:00"
    " NodeList=c[1-4] StdOut=/logs/slurm-31.out"
)


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of job 31 in runs/, and fake Slurm commands."""
    monkeypatch.chdir(tmp_path)
    for name, script in {"scontrol": f"echo '{SHOWN}'", "squeue": "echo '31|31|31 RUNNING 10:02 c[1-4]'"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("FASTVAE_ATTEMPT", "31.2")
    run_dir = tmp_path / "runs" / "digits"
    (run_dir / "checkpoints" / "step_00000200").mkdir(parents=True)
    write_record(run_dir, {})
    (run_dir / "metrics.jsonl").write_text('{"kind": "train", "step": 250, "elbo_nats": -12.345678}\n{"kind": "tr')
    write_status(run_dir, World(), "failed", 220, reason="OSError: flaky disk", num_steps=500)
    write_status(run_dir, World(), "running", 200)
    return run_dir


def status(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["status", *words]) == 0
    return capsys.readouterr().out


def test_the_status_of_one_run(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = status(capsys, str(run_dir))
    assert "running, step 200 of 500" in shown
    assert "1 x since step_00000200: OSError: flaky disk" in shown
    assert "checkpoint  step_00000200" in shown
    assert "train 250  elbo_nats -12.346" in shown
    assert "31 RUNNING on c[1-4], 00:10:02 of 1-00:00:00, queued again 2 times; log /logs/slurm-31.out" in shown


def test_the_status_of_all_runs(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_dir.parent / "waiting").mkdir()
    (run_dir.parent / "waiting" / "job_id").write_text("44\n")
    first, second = status(capsys).splitlines()
    assert first.split() == "runs/digits running, step 200 of 500 job 31 RUNNING 10:02 c[1-4]".split()
    assert second.split() == "runs/waiting not begun".split()


def test_runs_are_listed_although_slurm_does_not_answer(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'squeue: error: no controller' >&2\nexit 1\n")
    run, queue = status(capsys).splitlines()
    assert run.split() == "runs/digits running, step 200 of 500".split()
    assert queue.startswith("the state of the jobs is unknown: squeue --noheader")
    assert queue.endswith("squeue: error: no controller")
    monkeypatch.delenv("FASTVAE_ATTEMPT")
    write_status(run_dir, World(), "running", 200)  # not in a job: Slurm is not asked
    assert len(status(capsys).splitlines()) == 1


def test_a_job_unknown_to_slurm(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n"
    Path("scontrol").write_text(script)
    assert "31: no longer known to Slurm" in status(capsys, str(run_dir))


def test_without_slurm_the_status_of_the_directory_is_shown(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "runs/digits  running, step 200 of 500" in status(capsys)
    assert "job         31: scontrol is not on PATH" in status(capsys, str(run_dir))


@pytest.mark.parametrize(
    ("words", "expected"), [([], "no runs below runs"), (["nowhere"], "nowhere must contain a run")]
)
def test_a_missing_run_is_a_one_line_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_run_of_another_format_does_not_hide_the_others(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = run_dir.parent / "old"
    old.mkdir()
    (old / "config.yaml").write_text("train: {steps: 500}\n")
    write_status(old, World(), "done", 500, num_steps=500)
    first, second = status(capsys).splitlines()
    assert first.startswith("runs/digits  running, step 200 of 500")
    assert second.startswith("runs/old     contains a run of format 0, written by an older fastvae")
