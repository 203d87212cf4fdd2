"""A plugin: training waits in one step until the test lets it go on.

A test whose fault comes from outside does not race the steps of ``fastvae train ... --plugin=tests.held``. The
environment variable HOLD names a folder:

    held.RANK   written by a rank that waits, in the forward pass of its micro-batch number HOLD_AT
    heard.RANK  written by a waiting rank that has received a stop signal
    go          written by the test: no rank waits any longer, nor when the same command runs again
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from fastvae.train import step
from tests.signals import wait_until_read

HOLD_AT = 100
forward = step.forward
calls = 0


def environment(folder: Path) -> dict[str, str]:
    """Return the variable that names the folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"HOLD": str(folder)}


def all_have(what: str, folder: Path, ranks: int = 1) -> bool:
    """Whether every rank is ``held`` or has ``heard`` a stop signal."""
    return all((folder / f"{what}.{rank}").exists() for rank in range(ranks))


def release(folder: Path) -> None:
    """Let all ranks go on."""
    (folder / "go").touch()


def held(*arguments: Any, **options: Any) -> Any:
    global calls
    calls += 1
    if calls == HOLD_AT:
        wait(Path(os.environ["HOLD"]), os.environ.get("RANK", "0"))
    return forward(*arguments, **options)


def wait(folder: Path, rank: str) -> None:
    def listen(number: signal.Signals) -> None:
        handler = signal.getsignal(number)

        def hear(received: int, frame: FrameType | None) -> None:
            (folder / f"heard.{rank}").touch()
            assert callable(handler)
            handler(received, frame)

        signal.signal(number, hear)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        listen(number)
    (folder / f"held.{rank}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    wait_until_read()


if "HOLD" in os.environ:  # a test imports the functions alone
    step.forward = held
