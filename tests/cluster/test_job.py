"""`fastvae submit`: the batch script and the call of sbatch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fastvae import cli
from fastvae.cluster import Job
from tests import launching


def put_commands(monkeypatch: pytest.MonkeyPatch, folder: Path, **bodies: str) -> None:
    """Put fake Slurm commands first on PATH; the queue is empty by default."""
    for name, body in {"squeue": "true", **bodies}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.fixture
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for fake commands, separate from the working directory."""
    return tmp_path_factory.mktemp("commands")


def rendered(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["submit", "digits", *words, "--dry-run"]) == 0
    return capsys.readouterr().out


def test_a_dry_run_prints_the_script_and_writes_nothing(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put_commands(monkeypatch, commands, sinfo="exit 1")
    asked = "--nodes 4 --gpus-per-node 8 --time 24:00:00 --partition gpu --sbatch=--mem=0 --sbatch=--qos=long"
    script = rendered(capsys, *asked.split(), "--train.steps=50", "--run-dir", "a run")
    directives = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--nodes=4", "--gpus-per-node=8", "--time=24:00:00", "--partition=gpu", "--requeue"} <= set(directives)
    assert {"--mem=0", "--qos=long", f"--output={tmp_path}/a run/slurm-%j.out"} <= set(directives)
    assert "set -- digits --train.steps=50 --run-dir 'a run'\n" in script
    assert f"export LAUNCH={launching.ROOT}/launch\n" in script
    assert list(tmp_path.iterdir()) == []


NODES = """\
cpu*|16|64000|(null)
gpu|64|512000|gpu:a100:8(S:0-1),shard:32
gpu|96|1024000|gpu:h100:4
small*|8|32768|gpu:2"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--partition gpu --gpus-per-node 2", {"--cpus-per-task=16", "--mem=118G"}),  # of 8 GPUs, 64 cores, 475 GiB
        ("--gpus-per-node 2", {"--cpus-per-task=8", "--mem=30G"}),  # the default partition's
        ("--gpus-per-node 2 --cpus-per-node 3 --gib-per-node 5", {"--cpus-per-task=3", "--mem=5G"}),
        ("--gpus-per-node 2 --sbatch=--mem-per-gpu=9G", {"--cpus-per-task=8", "--mem-per-gpu=9G"}),
        ("--partition empty --gpus-per-node 2", {"--cpus-per-task=16", "--mem=64G"}),  # nothing is known
        ("--nodes 2", set()),
    ],
)
def test_cores_and_memory_are_proportional_to_the_gpus(
    words: str, expected: set[str], commands: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = f'cat <<\'END\' | if [ -n "$4" ]; then grep "^${{4#*=}}"; else cat; fi\n{NODES}\nEND'
    put_commands(monkeypatch, commands, sinfo=f"{listing}\ntrue")
    script = rendered(capsys, *words.split())
    directives = {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert {line for line in directives if line.startswith(("--cpus", "--mem"))} == expected


def test_the_script_equals_the_shipped_one(capsys: pytest.CaptureFixture[str]) -> None:
    script = rendered(capsys)
    shipped = (launching.ROOT / "launch" / "slurm" / "train.sbatch").read_text().splitlines()
    assert set(shipped) - set(script.splitlines()) <= {line for line in shipped if line.startswith("#SBATCH")}
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_a_sweep_is_a_job_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "rates.txt"
    settings.write_text("--train.lr 1e-3\n--train.lr 1e-4 --seed 2\n--train.lr 1e-5\n")
    script = rendered(capsys, "--sweep", str(settings), "--at-once", "2", "--train.steps=50")
    assert "#SBATCH --array=0-2%2\n" in script
    assert "/runs/rates/slurm-%A_%a.out\n" in script
    assert f"set -- digits {settings} --train.steps=50\n" in script
    assert "export SWEEP_DIR=runs/rates\n" in script


def test_the_script_is_passed_to_sbatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put_commands(monkeypatch, tmp_path, sbatch=f'echo "$@" > {tmp_path}/got; echo "31;cluster"')
    assert cli.main(["submit", "digits", "--nodes", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"job 31: {tmp_path}/runs/digits/slurm-31.out" in printed
    assert "fastvae status runs/digits" in printed
    assert (tmp_path / "got").read_text() == "--parsable runs/digits/job.sbatch\n"
    assert "#SBATCH --nodes=2\n" in (tmp_path / "runs" / "digits" / "job.sbatch").read_text()


def test_a_second_job_of_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put_commands(monkeypatch, tmp_path, sbatch="echo 32", squeue="echo '31|31|31 PENDING 0:00 (Priority)'")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "job_id").write_text("31\n")
    assert cli.main(["submit", "digits", "--run-dir=mine"]) == 2
    assert "must not have another job, got job 31 PENDING" in capsys.readouterr().err
    assert cli.main(["submit", "digits", "--run-dir=other"]) == 0


def test_a_refusal_by_slurm_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["submit", "digits"]) == 2
    assert "sbatch is not on PATH" in capsys.readouterr().err
    put_commands(monkeypatch, tmp_path, sbatch="echo 'sbatch: error: invalid partition' >&2; exit 1")
    assert cli.main(["submit", "digits"]) == 2
    assert capsys.readouterr().err.endswith("sbatch: error: invalid partition\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "a recipe must be the first"),
        (["--nodes", "4"], "a recipe must be the first"),
        (["digitz"], "digits"),
        (["digits", "--node", "4"], "did you mean --nodes?"),
        (["digits", "--train.step", "4"], "did you mean --train.steps?"),
        (["digits", "--sweep", "missing.txt"], "must name a file"),
    ],
)
def test_invalid_arguments_are_refused_before_submission(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["submit", *words, "--dry-run"] if words else ["submit"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--train.steps", "0"], "train.steps must be at least 1, or None for epochs, got 0"),
        (["--nodes", "0"], "--nodes must be at least 1, got 0"),
        (["--time", "a day"], "--time must be in Slurm's format"),
        (["--at-once", "2"], "--sweep FILE"),
        (["--mounts", "/a:/a"], "--image"),
    ],
)
def test_invalid_values_are_refused_before_submission(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["submit", "digits", *words, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_an_invalid_line_of_a_sweep_is_refused_before_submission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.txt"
    settings.write_text("--train.lr 1e-3\n--train.learning 1e-4\n")
    assert cli.main(["submit", "digits", "--sweep", str(settings), "--dry-run"]) == 2
    assert "--train.learning" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["90", "10:00", "24:00:00", "3-12", "3-12:30", "3-12:30:00"])
def test_time_formats_of_slurm_are_accepted(time: str) -> None:
    assert Job(time=time).time == time
