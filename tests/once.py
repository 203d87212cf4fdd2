"""What several processes of pytest share: one of them makes it, the others wait and read it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that ``make`` fills once per test run, not once per process that has a test of the module.

    ``pytest -n 2 --dist worksteal`` may give a module's tests to both processes, and sets a module's fixtures up
    again in a process that returns to it. Tests must not change the folder.

    Args:
        factory: the fixture ``tmp_path_factory``.
        name: the folder's name, unique in the suite.
        make: fills the empty folder.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, complete = shared / name, shared / f"{name}.complete"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder
