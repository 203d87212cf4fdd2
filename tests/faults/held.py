"""``fastvae WORDS`` that waits in the forward pass of its 100th micro-batch until it receives a stop signal.

A test that signals this program does not race its steps: the file HELD/RANK exists while it waits.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from fastvae import cli
from fastvae.train import step

HOLD_AT = 100
forward = step.forward
calls = 0


def held(*arguments: Any, **options: Any) -> Any:
    global calls
    calls += 1
    if calls == HOLD_AT:
        wait_for_the_signal()
    return forward(*arguments, **options)


def wait_for_the_signal() -> None:
    asked = []
    handler = signal.getsignal(signal.SIGTERM)

    def hear(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        assert callable(handler)
        handler(number, frame)

    signal.signal(signal.SIGTERM, hear)
    (Path(os.environ["HELD"]) / os.environ.get("RANK", "0")).touch()
    while not asked:
        time.sleep(0.01)


step.forward = held
sys.exit(cli.main(sys.argv[1:]))
