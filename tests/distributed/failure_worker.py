"""Small worlds of forked processes that sum numbers until one fails, each in another way; they meet one by one.

Prints a JSON object: the verdict and the exception of each rank of each world.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fastvae.distributed import World, enter_world
from fastvae.distributed.peers.heartbeat import Heartbeat

SIZE = 3
STARVED_S = 2.5  # longer than a roll call


def starve_heartbeats() -> None:
    """Delay the thread that answers the other ranks, as a busy machine does."""
    beat = Heartbeat.beat

    def late_beat(self: Heartbeat) -> None:
        time.sleep(STARVED_S)
        beat(self)

    Heartbeat.beat = late_beat  # type: ignore[method-assign]


def fail(how: str, failures: list[dict[str, Any]]) -> None:
    if how == "raise":
        raise ValueError("the third example is missing")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while how in ("busy", "starved") and not failures:  # until the others have noticed
        time.sleep(0.05)


def sum_numbers(world: World, how: str, culprit: int, failures: list[dict[str, Any]]) -> None:
    world.barrier()
    if world.rank == culprit:
        fail(how, failures)
    for _ in range(3):
        dist.all_reduce(torch.zeros(1))


def run_rank(how: str, culprit: int, timeout_s: float, met: Path) -> dict[str, Any]:
    failures: list[dict[str, Any]] = []
    raised = None
    try:
        with enter_world(
            "cpu", timeout_s=timeout_s, on_failure=lambda failure: failures.append(vars(failure))
        ) as world:
            met.touch()
            sum_numbers(world, how, culprit, failures)
    except (RuntimeError, ValueError) as error:
        raised = f"{type(error).__name__}: {error}"
    return {"failures": failures, "raised": raised}


def met_file(path: Path) -> Path:
    """Written by a rank that has met the others."""
    return path.with_suffix(".met")


def start(job: dict[str, Any], rank: int, port: int, path: Path) -> int:
    """Fork a process that runs one rank and writes its output to ``path``; return its process ID."""
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    if job["how"] == "starved":
        starve_heartbeats()
    result = run_rank(job["how"], job["culprit"], job["timeout_s"], met_file(path))
    path.write_text(json.dumps({**result, "process": os.getpid()}))
    os._exit(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def main(jobs: Path) -> None:
    worlds = json.loads(jobs.read_text())
    frozen = []
    children = []
    for number, job in enumerate(worlds):
        port = free_port()
        paths = [jobs.parent / f"{number}_{rank}.json" for rank in range(SIZE)]
        for rank, path in enumerate(paths):
            child = start(job, rank, port, path)
            (frozen if (job["how"], job["culprit"]) == ("stop", rank) else children).append(child)
        deadline = time.monotonic() + job["timeout_s"]
        while not all(met_file(path).exists() for path in paths) and time.monotonic() < deadline:
            time.sleep(0.02)  # the ranks of a world must meet within its timeout: no other world slows them down
    for child in children:
        os.waitpid(child, 0)
    for child in frozen:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
