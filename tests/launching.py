"""Start the program like a user: one process, or several through torchrun."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def deepspeed_lacks() -> str:
    """Return the missing requirements of tests with DeepSpeed on CPUs; empty if they can run."""
    if importlib.util.find_spec("deepspeed") is None:
        return "deepspeed is not installed: pip install fastvae[deepspeed]"
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        return "DeepSpeed compiles a part of itself on CPUs, and no C++ compiler is on PATH"
    return ""


def command(module_or_script: Sequence[str], num_processes: int) -> list[str]:
    """Return the command line for one process, or for several through torchrun."""
    if num_processes == 1:
        return [sys.executable, *module_or_script]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    return [*launcher, "--", *module_or_script] if module_or_script[0] != "-m" else [*launcher, *module_or_script]


def environment() -> dict[str, str]:
    """Return this environment with one thread per process: results are bit-equal and cores not oversubscribed."""
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )  # DeepSpeed searches PATH for ninja
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": path}


def run(
    module_or_script: Sequence[str], *, num_processes: int = 1, check: bool = True, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with ``check``, a failure shows the program's output."""
    result = subprocess.run(
        command(module_or_script, num_processes),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and result.returncode != 0:
        raise AssertionError(f"exit code {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-6000:]}")
    return result


def fastvae(*words: str, num_processes: int = 1, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ``fastvae WORDS`` in one process, or in several through torchrun."""
    return run(["-m", "fastvae", *words], num_processes=num_processes, check=check)
