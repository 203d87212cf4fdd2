"""A new run directory for a call from Python without ``run_dir``."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from fastvae.distributed import world_from_environment

_ROOT = Path("runs")
_calls = itertools.count(1)


def new_run_dir() -> Path:
    """Return a new directory in ``runs``; all processes of a torchrun, including restarts, get the same one.

    Raises:
        ValueError: several processes train without a common identity from which to derive its name.
    """
    call = next(_calls)
    launch = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if launch != "none":
        return _ROOT / f"custom-{launch}-{call}"
    if world_from_environment("cpu").world_size > 1:
        raise ValueError(
            "train: run_dir must be set if several processes train without a torchrun that has an identity "
            "(--standalone, or --rdzv-id), so that all of them use the same one"
        )
    stem = f"custom-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        path = _ROOT / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable: the count is infinite")
