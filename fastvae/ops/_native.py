"""The only file that loads fastvae._C, the native library; it keeps the reason when it cannot.

Loading registers the CPU and CUDA kernels under the operators' names, and the dispatcher prefers them to the reference.
FASTVAE_BACKEND decides whether that happens: ``auto`` (the default: native where the library is there), ``native`` (an
error where it is not) or ``reference`` (never).
"""

from __future__ import annotations

import json
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Any

BUILD_COMMAND = "FASTVAE_BUILD=require pip install -v --no-build-isolation ."
_CHOICES = ("auto", "native", "reference")
_BUILD_INFO = Path(__file__).parent.parent / "_build_info.json"

loaded: bool  # whether the native kernels are registered
reason: str  # why the backend is what it is; without a library, the loader's own message
build_info: dict[str, Any]  # what setup.py recorded and what the library itself says; {} where neither is there


def _choice() -> str:
    choice = os.environ.get("FASTVAE_BACKEND") or "auto"
    if choice not in _CHOICES:
        raise ValueError(f"FASTVAE_BACKEND must be one of {', '.join(_CHOICES)}, got {choice!r}; unset it for auto")
    return choice


def _recorded() -> dict[str, Any]:
    try:
        recorded: dict[str, Any] = json.loads(_BUILD_INFO.read_text())
    except FileNotFoundError:  # built by hand, or never
        return {}
    return recorded


def _load(choice: str, recorded: dict[str, Any]) -> tuple[bool, str, dict[str, Any]]:
    """What `loaded`, `reason` and `build_info` become."""
    if choice == "reference":
        return False, "FASTVAE_BACKEND=reference", recorded
    try:
        library = import_module("fastvae._C")
    except ImportError as error:  # not built, or built for another torch, Python or C++ runtime
        why = f"fastvae._C does not load ({error})"
        if recorded.get("reason"):
            why += f"; when it was installed: {recorded['reason']}"
        if choice == "native":
            raise ImportError(f"FASTVAE_BACKEND=native, but {why}. Build it: {BUILD_COMMAND}") from error
        return False, why, recorded
    details = {**library.build_info(), "cpu_capability": library.cpu_capability()}
    return True, f"fastvae._C is loaded ({details['cpu_capability']} kernels)", {**recorded, **details}


def _say(choice: str) -> None:
    """Once, on rank 0: loudly only where the library was wanted and is missing."""
    if int(os.environ.get("RANK", "0")) != 0:
        return
    log = logging.getLogger("fastvae")
    if loaded or choice == "reference":
        log.info("backend: %s (%s)", "native" if loaded else "reference", reason)
    else:
        log.warning(
            "fastvae runs its reference in plain PyTorch, several times slower: %s. Build the library: %s",
            reason,
            BUILD_COMMAND,
        )


loaded, reason, build_info = _load(_choice(), _recorded())
_say(_choice())
