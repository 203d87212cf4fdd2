"""A plugin: the process kills itself after the checkpoint of step 10 in the folder KILL_AFTER."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from fastvae.train import step

STEP = 10
forward = step.forward
calls = 0


def killed(*arguments: Any, **options: Any) -> Any:
    global calls
    calls += 1
    if calls == STEP + 3:
        while STEP not in (int(path.name.split("_")[1]) for path in Path(os.environ["KILL_AFTER"]).glob("step_*[0-9]")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(*arguments, **options)


if "KILL_AFTER" in os.environ:  # a test imports the functions alone
    step.forward = killed
