"""The launchers, started as by a user."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests import launching
from tests.faults.program import Program
from tests.once import once
from tests.runs import free_port

LAUNCH = launching.ROOT / "launch"
OPTIONS = (
    "--train.steps=6 --train.final-samples=1 --model.hidden-dim 16 --train.device=cpu --train.log-every=2"
    " --train.timeout=120"
).split()


def start(script: str, run_dir: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(LAUNCH / script), "digits", f"--run-dir={run_dir}", *OPTIONS, *words],
        env={**launching.environment(), "PYTHON": sys.executable, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=run_dir.parent,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-6000:]
    return output


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """The same run in one process."""

    def make(root: Path) -> None:
        program.run_words("train", "digits", f"--run-dir={root / 'one'}", *OPTIONS, output=root / "output")

    return once(tmp_path_factory, "launch", make) / "one"


def assert_same(run_dir: Path, one: Path) -> None:
    assert json.loads((run_dir / "status.json").read_text())["state"] == "done"
    ours, theirs = (safetensors.torch.load_file(path / "model.safetensors") for path in (run_dir, one))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-5, rtol=0)


def test_local(tmp_path: Path, one: Path) -> None:
    output = finish(start("local.sh", tmp_path / "run", PROCESSES="2"))
    assert "launch/local.sh: 2 processes" in output
    assert "2 x cpu, ddp" in output
    assert_same(tmp_path / "run", one)


def machine_with_16_cores(folder: Path) -> dict[str, str]:
    """An environment whose nproc reports 16 cores and follows OMP_NUM_THREADS like the real one.

    Its Python finds no GPU and prints the command instead of running it.
    """
    programs = {
        "nproc": 'echo "${OMP_NUM_THREADS:-${OMP_THREAD_LIMIT:-16}}"',
        "python": '[ "$1" = -c ] && echo 0 || echo "threads=$OMP_NUM_THREADS $*"',
    }
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHON": str(folder / "python")}


@pytest.mark.parametrize(
    ("script", "given", "expected"),
    [
        ("local.sh", "", "threads=4 .*--nproc-per-node 4 "),
        ("local.sh", "1", "threads=1 .*--nproc-per-node 4 "),
        ("multinode.sh", "1", "threads=1 .*--nproc-per-node 4 "),
        ("deepspeed.sh", "", "threads=8 .*--num_accelerators 2 "),
        ("deepspeed.sh", "1", "threads=1 .*--num_accelerators 2 "),
    ],
)
def test_launchers_divide_the_cores_for_any_number_of_threads(
    tmp_path: Path, script: str, given: str, expected: str
) -> None:
    """OMP_NUM_THREADS=1 does not mean one process: the number of processes follows the cores."""
    variables = {"OMP_NUM_THREADS": given, "OMP_THREAD_LIMIT": given, "HEAD": "localhost", "NODES": "2"}
    output = finish(start(script, tmp_path / "run", **{**machine_with_16_cores(tmp_path), **variables}))
    assert re.search(expected, output), output


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_divides_the_cores_for_any_number_of_threads(tmp_path: Path) -> None:
    environment = {**os.environ, **machine_with_16_cores(tmp_path), "OMP_NUM_THREADS": "1"}
    command = ["make", "--dry-run", "--directory", str(launching.ROOT), "train"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "OMP_NUM_THREADS=8 " in shown
    assert "--nproc-per-node 2 " in shown


@pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2 to find the interface")
def test_multinode_with_two_agents_on_this_host(tmp_path: Path, one: Path) -> None:
    variables = {"HEAD": "localhost", "NODES": "2", "PROCESSES": "1", "PORT": str(free_port())}
    agents = [start("multinode.sh", tmp_path / "run", **variables) for _ in range(2)]
    outputs = [finish(agent) for agent in agents]
    assert "2 x cpu, ddp" in "".join(outputs)
    assert_same(tmp_path / "run", one)


@pytest.mark.skipif(bool(launching.deepspeed_lacks()), reason=launching.deepspeed_lacks())
@pytest.mark.parametrize("settings", [  # zero1.json: below
    "zero3-offload.json",
    # Slow: the same launcher; test_strategies.py trains with stage 2.
    pytest.param("zero2.json", marks=pytest.mark.slow),
])  # fmt: skip
def test_deepspeed(tmp_path: Path, one: Path, settings: str) -> None:
    output = finish(start("deepspeed.sh", tmp_path / "run", SETTINGS=str(LAUNCH / settings), PORT=str(free_port())))
    assert "2 x cpu, deepspeed" in output
    assert_same(tmp_path / "run", one)


@pytest.mark.skipif(bool(launching.deepspeed_lacks()), reason=launching.deepspeed_lacks())
def test_deepspeed_with_a_hostfile(tmp_path: Path, one: Path) -> None:
    """DeepSpeed checks each host over ssh; this ssh runs the command on the local machine."""
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    (tmp_path / "ssh").write_text('#!/bin/sh\n[ "$1" != -o ] || shift 2\nshift\nexec "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), launching.environment()["PATH"]])
    variables = {"HOSTFILE": str(tmp_path / "hosts"), "SETTINGS": str(LAUNCH / "zero1.json"), "PATH": path}
    variables["PORT"] = str(free_port())
    assert "2 x cpu, deepspeed" in finish(start("deepspeed.sh", tmp_path / "run", **variables))
    assert_same(tmp_path / "run", one)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("strategy", [
    "fsdp",
    pytest.param("ddp", marks=pytest.mark.slow),  # DDP changes the compiled model less than FSDP
])  # fmt: skip
def test_compiled_models_train_identically(tmp_path: Path, one: Path, strategy: str) -> None:
    """A compiled model under a strategy gives the same training run."""
    finish(start("local.sh", tmp_path / "run", f"--train.strategy={strategy}", "--train.compile", PROCESSES="2"))
    assert_same(tmp_path / "run", one)


@pytest.mark.parametrize("script", ["local.sh", "multinode.sh", "deepspeed.sh"])
def test_launchers_print_their_usage_without_arguments(script: str) -> None:
    result = subprocess.run(["bash", str(LAUNCH / script)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "RECIPE [options of `fastvae train`]" in result.stderr
