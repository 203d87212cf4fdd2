"""run_gpu.sh: its dry run, and what it leaves when a step fails or the script is killed."""

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


def start(*options: str, **environment: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a tool with a time limit would."""
    variables = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    command = ["bash", str(ROOT / "benchmarks" / "run_gpu.sh"), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=variables, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]


def stub(folder: Path, body: str) -> str:
    """An interpreter that does what a shell script says, but for the programs that write rows."""
    path = folder / "python"
    path.write_text(
        f'#!/bin/bash\ncase "$*" in *gpu_rows.py*) exec "{sys.executable}" "$@" ;; '
        f'*gpu_prepare.py*) cp -r "{ROOT}/benchmarks" "$(mkdir -p "$2" && echo "$2")" ;; *) {body} ;; esac\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.timeout(900)
def test_the_script_runs_dry(tmp_path: Path) -> None:
    process = start("--dry-run", RESULTS=str(tmp_path))
    said = process.communicate()[0]
    assert process.returncode == 0, said + (tmp_path / "run_gpu.log").read_text()[-10_000:]
    for step in STEPS:
        assert f"ok      {step} (" in said
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


def test_it_goes_on_after_a_failure_and_names_it(tmp_path: Path) -> None:
    python = stub(tmp_path, "echo from the step; exit 3")
    process = start("--dry-run", PYTHON=python, RESULTS=str(tmp_path / "out"), STEPS="digits alone")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "failed after" in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith(": alone digits")  # in the script's order
    assert (tmp_path / "out" / "run_gpu.log").read_text().count("from the step") >= 2
    assert (tmp_path / "out" / "checks.csv").read_text().count("FAILED") == 2


@pytest.mark.parametrize("refused", [True, False])
def test_a_profile_without_counters_is_no_success(tmp_path: Path, refused: bool) -> None:
    line = "==ERROR== ERR_NVGPUCTRPERM" if refused else '"0","GPU Speed Of Light Throughput","DRAM Throughput"'
    ncu = tmp_path / "ncu"
    ncu.write_text(f"#!/bin/sh\necho '{line}' > \"$RESULTS/ncu.csv\"\n")  # ends well either way
    ncu.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    process = start(PYTHON=stub(tmp_path, ":"), RESULTS=str(tmp_path / "out"), STEPS="profile", PATH=path)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == int(refused)
    assert ("ncu read no counters: ==ERROR== ERR_NVGPUCTRPERM" in said) == refused


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_script_leaves_what_the_running_step_said(tmp_path: Path, number: signal.Signals) -> None:
    python = stub(tmp_path, 'echo $$ > "$RESULTS/../pid"; echo half a step; exec sleep 60')
    process = start("--dry-run", PYTHON=python, RESULTS=str(tmp_path / "out"), STEPS="memcheck")
    log, end = tmp_path / "out" / "run_gpu.log", time.monotonic() + 60
    while not (log.exists() and "half a step" in log.read_text()):
        assert time.monotonic() < end, "the step never spoke"
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    assert "half a step" in log.read_text()
    assert "prepare,the step,ok" in (tmp_path / "out" / "checks.csv").read_text()
    if number == signal.SIGKILL:  # nobody was left to end the step
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_it_refuses_clearly(tmp_path: Path) -> None:
    assert "the only option is --dry-run" in start("--wet-run").communicate(timeout=60)[0]
    assert "STEPS must be some of machine tests" in start(STEPS="kernel").communicate(timeout=60)[0]
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')  # without site-packages
    bare.chmod(0o755)
    process = start("--dry-run", PYTHON=str(bare), RESULTS=str(tmp_path / "out"))
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "lacks numpy, tyro" in said
    assert "make gpu-kit" in said
