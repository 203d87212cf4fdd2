"""run_gpu.sh: its dry run, and its results if a step fails or the script is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = "machine tests alone profile digits train_step memcheck strategies eager compiled gloo train_more".split()
QUICK = "machine tests alone profile digits train_step eager gloo".split()  # the others repeat its programs


def start(*options: str, **environment: str) -> subprocess.Popen[str]:
    """Start the script in a new process group, as a tool with a time limit would."""
    variables = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    command = ["bash", str(ROOT / "benchmarks" / "run_gpu.sh"), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=variables, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]


def stub(folder: Path, body: str) -> str:
    """Make an interpreter that runs a shell command, except for the programs that write rows."""
    path = folder / "python"
    path.write_text(
        f'#!/bin/bash\ncase "$*" in *gpu_rows.py*) exec "{sys.executable}" "$@" ;; '
        f'*gpu_prepare.py*) cp -r "{ROOT}/benchmarks" "$(mkdir -p "$2" && echo "$2")" ;; *) {body} ;; esac\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("steps", [QUICK, pytest.param(STEPS, marks=pytest.mark.slow)], ids=["quick", "all"])
def test_dry_run(tmp_path: Path, steps: list[str]) -> None:
    process = start("--dry-run", RESULTS=str(tmp_path), STEPS=" ".join(steps))
    output = process.communicate()[0]
    assert process.returncode == 0, output + (tmp_path / "run_gpu.log").read_text()[-10_000:]
    for step in steps:
        assert f"ok      {step} (" in output
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in ("kernels", "train_step", "checks") for kind in ("csv", "md")
    } | {"run_gpu.log"}
    checks = (tmp_path / "checks.md").read_text()
    for check in ("first-step loss", "from step 2 of 4, bit for bit", "ddp, 2 ranks", "noise integers"):
        assert check in checks
    assert "FAILED" not in checks
    page = (tmp_path / "kernels.md").read_text()
    for row in ("bernoulli_nll uint8 forward 24x16 bfloat16", "multinomial_nll csr forward+backward 24x16 float32"):
        assert f"| {row} " in page


def test_the_script_continues_after_a_failed_step(tmp_path: Path) -> None:
    python = stub(tmp_path, "echo from the step; exit 3")
    process = start("--dry-run", PYTHON=python, RESULTS=str(tmp_path / "out"), STEPS="digits alone")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert output.splitlines()[-1].endswith(": alone digits")  # in the script's order
    assert (tmp_path / "out" / "run_gpu.log").read_text().count("from the step") >= 2
    assert (tmp_path / "out" / "checks.csv").read_text().count("FAILED") == 2


@pytest.mark.parametrize("refused", [True, False])
def test_a_profile_without_counters_fails(tmp_path: Path, refused: bool) -> None:
    line = "==ERROR== ERR_NVGPUCTRPERM" if refused else '"0","GPU Speed Of Light Throughput","DRAM Throughput"'
    ncu = tmp_path / "ncu"
    ncu.write_text(f"#!/bin/sh\necho '{line}' > \"$RESULTS/ncu.csv\"\n")  # exits with 0 in both cases
    ncu.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    process = start(PYTHON=stub(tmp_path, ":"), RESULTS=str(tmp_path / "out"), STEPS="profile", PATH=path)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == int(refused)
    assert ("ERR_NVGPUCTRPERM" in output) == refused


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_script_keeps_the_output_of_the_running_step(tmp_path: Path, number: signal.Signals) -> None:
    python = stub(tmp_path, 'echo $$ > "$RESULTS/../pid"; echo half a step; exec sleep 60')
    process = start("--dry-run", PYTHON=python, RESULTS=str(tmp_path / "out"), STEPS="memcheck")
    log, end = tmp_path / "out" / "run_gpu.log", time.monotonic() + 60
    while not (log.exists() and "half a step" in log.read_text()):
        assert time.monotonic() < end, "the step wrote no output"
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    assert "half a step" in log.read_text()
    assert "prepare,the step,ok" in (tmp_path / "out" / "checks.csv").read_text()
    if number == signal.SIGKILL:  # the script could not end the step
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_invalid_usage_is_reported(tmp_path: Path) -> None:
    assert "--wet-run" in start("--wet-run").communicate(timeout=60)[0]
    assert "STEPS must be some of machine tests" in start(STEPS="kernel").communicate(timeout=60)[0]
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')  # without site-packages
    bare.chmod(0o755)
    process = start("--dry-run", PYTHON=str(bare), RESULTS=str(tmp_path / "out"))
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "numpy, tyro" in output
    assert "make gpu-kit" in output
