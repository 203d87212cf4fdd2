"""The program under test: started by a fork server, with faults in its system calls if a test requests them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import launching
from tests.runs import free_port

SERVER = Path(__file__).with_name("forkserver.py")
SHIM = Path(__file__).with_name("shim.c")
OPTIONS = (
    "--train.final-samples=1",
    "--train.log-every=1",
    "--train.global-batch-size=32",
    "--train.ema=0.9",
    "--train.device=cpu",
    "--model.hidden-dim",
    "8",
)


@dataclass(frozen=True)
class Process:
    """One running process of the program."""

    pid: int
    output: Path
    program: Program

    def wait(self) -> int:
        """Return the exit code; the negative signal number if a signal ended the process."""
        return self.program.wait(self.pid)

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def state(self) -> str:
        """The kernel's state of the process: R or S while it runs, T if it is stopped, Z after its end."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def text(self) -> str:
        """The output so far."""
        return self.output.read_text(errors="replace")


@dataclass
class Program:
    """The fork server."""

    server: subprocess.Popen[str]
    running: set[int] = field(default_factory=set)
    asked: int = 0

    @classmethod
    def serve(cls, shim: Path | None) -> Program:
        environment = launching.environment() | ({"LD_PRELOAD": str(shim)} if shim else {})
        command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", str(SERVER)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return cls(subprocess.Popen(command, env=environment, **pipes))

    def close(self) -> None:
        for pid in list(self.running):
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)
        self.server.communicate()  # closes its input, which ends it

    def _ask(self, request: dict[str, Any]) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.asked += 1
        self.server.stdin.write(json.dumps(request | {"id": self.asked}) + "\n")
        self.server.stdin.flush()
        while True:  # skips answers that were never read because of a test's time limit
            number, answer = map(int, self.server.stdout.readline().split())
            if number == self.asked:
                return answer

    def start(self, *words: str, output: Path, folder: Path | None = None, **environment: str) -> Process:
        """Start ``fastvae WORDS``, in a folder or in that of the tests."""
        output.parent.mkdir(parents=True, exist_ok=True)
        place = {} if folder is None else {"folder": str(folder)}
        pid = self._ask({"words": list(words), "environment": environment, "output": str(output), **place})
        self.running.add(pid)
        return Process(pid, output, self)

    def start_script(self, script: Path, *words: str, folder: Path, output: Path, **environment: str) -> Process:
        """Start ``python SCRIPT WORDS`` in a folder."""
        place = {"script": str(script), "folder": str(folder)}
        pid = self._ask({"words": list(words), "environment": environment, "output": str(output), **place})
        self.running.add(pid)
        return Process(pid, output, self)

    def run_script(self, script: Path, *words: str, folder: Path, ranks: int = 1) -> None:
        """Run ``python SCRIPT WORDS`` to its end, in processes with torchrun's environment."""
        finish(self.start_ranks(script, *words, folder=folder, ranks=ranks))

    def start_ranks(
        self, script: Path, *words: str, folder: Path, ranks: int, hooks: Mapping[int, str] | None = None
    ) -> list[Process]:
        """Start ``python SCRIPT WORDS`` in processes with torchrun's environment.

        ``hooks`` are signals that single ranks send themselves, see ``forkserver.signal_inside``.
        """
        port, processes = free_port(), []
        for rank in range(ranks):
            output = folder / f"{script.stem}_{ranks}.rank{rank}.txt"
            place = rank_environment(rank, ranks, port) | hook_of(rank, hooks)
            processes.append(self.start_script(script, *words, folder=folder, output=output, **place))
        return processes

    def run_words(self, *words: str, output: Path, ranks: int = 1) -> None:
        """Run ``fastvae WORDS`` to its end, in processes with torchrun's environment."""
        port, processes = free_port(), []
        for rank in range(ranks):
            text = output.with_name(f"{output.name}.rank{rank}.txt")
            processes.append(self.start(*words, output=text, **rank_environment(rank, ranks, port)))
        finish(processes)

    def wait(self, pid: int) -> int:
        self.running.discard(pid)
        try:
            return self._ask({"wait": pid})
        except BaseException:  # the test's time limit: the server is blocked until the process ends
            os.kill(pid, signal.SIGKILL)
            raise

    def train(
        self, run_dir: Path, *options: str, ranks: int = 1, hooks: Mapping[int, str] | None = None, **environment: str
    ) -> list[Process]:
        """Start a short training run of ``ranks`` processes with torchrun's environment.

        ``hooks`` are signals that single ranks send themselves, see ``forkserver.signal_inside``.
        """
        words = ("train", "digits", f"--run-dir={run_dir}", *OPTIONS, *options)
        return self.on_ranks(words, run_dir, ranks=ranks, hooks=hooks, **environment)

    def on_ranks(
        self,
        words: Sequence[str],
        output: Path,
        *,
        ranks: int = 1,
        hooks: Mapping[int, str] | None = None,
        **environment: str,
    ) -> list[Process]:
        """Start ``fastvae WORDS`` in ``ranks`` processes; the output of rank N is in ``output`` + ``.rankN.txt``."""
        port, processes = free_port(), []
        for rank in range(ranks):
            place = rank_environment(rank, ranks, port) | hook_of(rank, hooks)
            path = output.with_name(f"{output.name}.rank{rank}.txt")
            processes.append(self.start(*words, output=path, **place, **environment))
        return processes

    def run(self, run_dir: Path, *options: str, ranks: int = 1, check: bool = True, **environment: str) -> list[int]:
        """Run the training to its end; with ``check``, a failure shows the program's output."""
        return finish(self.train(run_dir, *options, ranks=ranks, **environment), check=check)


def finish(processes: Sequence[Process], *, check: bool = True) -> list[int]:
    """Wait for processes and return their exit codes; with ``check``, a failure shows their output."""
    codes = [process.wait() for process in processes]
    if check and any(codes):
        raise AssertionError(f"exit codes {codes}\n" + "\n".join(process.text()[-4000:] for process in processes))
    return codes


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return what torchrun tells one of several processes; nothing for a single one."""
    if ranks == 1:
        return {}
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}


def hook_of(rank: int, hooks: Mapping[int, str] | None) -> dict[str, str]:
    """Return the variable with the hook of a rank, if it has one."""
    return {"FAULT_HOOK": hooks[rank]} if hooks and rank in hooks else {}


def logged_step(run_dir: Path) -> int:
    """The last step in metrics.jsonl, or 0 if there is none."""
    path = run_dir / "metrics.jsonl"
    lines = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return max((int(json.loads(line)["step"]) for line in lines), default=0)


def wait_until(condition: Callable[[], bool], *, limit_s: float = 120) -> None:
    """Wait until a condition is true; fail after a time limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def build_shim(folder: Path) -> Path | None:
    """Build the library that injects faults into system calls; return None without a C compiler."""
    library = folder / "shim.so"
    try:
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        return None
    return library
