"""The only file that loads the native libraries; if that fails, it records the reason.

Loading ``libfastvae_cpu.so`` and ``libfastvae_cuda.so`` registers their kernels under the operators' names, and the
dispatcher prefers them to the reference. The CUDA library is loaded if it matches torch's CUDA version and this
machine's GPUs. FASTVAE_BACKEND controls loading: ``auto`` (the default: native if the library exists), ``native`` (an
error without a library) or ``reference`` (never).
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch

from fastvae.ops.gpus import Capability, compute_capabilities, is_served

BUILD_COMMAND = "FASTVAE_BUILD=require pip install -v --no-build-isolation ."
_CHOICES = ("auto", "native", "reference")
_PACKAGE = Path(__file__).parent.parent
_CPU, _CUDA = _PACKAGE / "libfastvae_cpu.so", _PACKAGE / "libfastvae_cuda.so"

loaded: bool  # whether the CPU kernels are registered
reason: str  # why the backend is what it is; without a library, the loader's own message
cuda_loaded: bool  # whether the CUDA kernels are registered
cuda_reason: str  # why they are registered, or not
build_info: dict[str, Any]  # the record of setup.py, and the instruction set in use; {} if nothing was built


def why_not_cuda(recorded: dict[str, Any], torch_cuda: str | None, capabilities: list[Capability]) -> str | None:
    """The reason why the CUDA kernels of a build cannot run with this torch on these GPUs; None if they can."""
    if not recorded.get("cuda"):
        why = recorded.get("cuda_reason") or recorded.get("reason") or "the build left no record"
        return f"the CUDA kernels were not built ({why})"
    version, architectures = str(recorded["cuda_version"]), str(recorded["cuda_architectures"])
    if torch_cuda is None:
        return f"torch is a build without CUDA (the kernels were built with CUDA {version})"
    if version.split(".")[0] != torch_cuda.split(".")[0]:
        return (
            f"the kernels were built with CUDA {version}, and torch with CUDA {torch_cuda}: build them for this torch"
        )
    if capabilities and not any(is_served(capability, architectures) for capability in capabilities):
        gpus = ", ".join(sorted({f"{major}.{minor}" for major, minor in capabilities}))
        return (
            f"the kernels were built for the architectures {architectures}, and this GPU's is {gpus}: "
            f"build them with TORCH_CUDA_ARCH_LIST={gpus.split(', ')[-1]}"
        )
    return None


def _choice() -> str:
    choice = os.environ.get("FASTVAE_BACKEND") or "auto"
    if choice not in _CHOICES:
        raise ValueError(f"FASTVAE_BACKEND must be one of {', '.join(_CHOICES)}, got {choice!r}; unset it for auto")
    return choice


def _recorded() -> dict[str, Any]:
    path = _PACKAGE / "_build_info.json"
    try:
        recorded: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:  # built by hand, or not built
        return {}
    except ValueError as error:  # an interrupted installation
        raise ImportError(f"{path} must hold JSON ({error}); install fastvae again: {BUILD_COMMAND}") from error
    return recorded


def _register(library: Path) -> str | None:
    """Register a library's kernels; returns the reason if that fails."""
    if not library.exists():
        return f"{library.name} was not built"
    try:
        torch.ops.load_library(str(library))
    except OSError as error:  # built for another processor, or for a newer torch or C++ runtime
        return f"{library.name} does not load ({error.__cause__ or error})"  # the cause is the loader's own message
    return None


def _cpu_capability() -> str:
    """The instruction set of the CPU kernels.

    Raises:
        ValueError: FASTVAE_CPU_CAPABILITY names an unknown instruction set, or one that this processor does not have.
    """
    function = ctypes.CDLL(str(_CPU)).fastvae_cpu_capability
    function.restype, error = ctypes.c_char_p, ctypes.c_char_p()
    name = function(ctypes.byref(error))
    if name is None:
        raise ValueError((error.value or b"").decode())
    return str(name.decode())


def _load_cpu(choice: str, recorded: dict[str, Any]) -> tuple[bool, str]:
    """The values of `loaded` and `reason`."""
    if choice == "reference":
        return False, "FASTVAE_BACKEND=reference"
    why = _register(_CPU)
    if why is None:
        recorded["cpu_capability"] = _cpu_capability()
        return True, f"{_CPU.name} is loaded ({recorded['cpu_capability']} kernels)"
    if recorded.get("reason"):
        why += f"; when it was installed: {recorded['reason']}"
    if choice == "native":
        raise ImportError(f"FASTVAE_BACKEND=native, but {why}. Build it: {BUILD_COMMAND}")
    return False, why


def _load_cuda(choice: str, recorded: dict[str, Any]) -> tuple[bool, str]:
    """The values of `cuda_loaded` and `cuda_reason`."""
    if not loaded:
        return False, reason
    gpus = compute_capabilities() if torch.version.cuda else []
    why = why_not_cuda(recorded, torch.version.cuda, gpus) or _register(_CUDA)
    if why is None:
        return True, f"{_CUDA.name} is loaded"
    if gpus and choice == "native":
        raise ImportError(f"FASTVAE_BACKEND=native, but there are no CUDA kernels: {why}. Build them: {BUILD_COMMAND}")
    if gpus:
        _warn("on the GPU fastvae", why)
    return False, why


def _is_first() -> bool:
    """Whether this is rank 0, or RANK is not a number, which `fastvae.distributed` refuses by name."""
    return os.environ.get("RANK", "0").strip() in ("", "0")


def _warn(who: str, why: str) -> None:
    """Once, on rank 0."""
    if _is_first():
        message = "%s runs its reference in plain PyTorch, several times slower: %s. Build the library: %s"
        logging.getLogger("fastvae").warning(message, who, why, BUILD_COMMAND)


build_info = _recorded()
loaded, reason = _load_cpu(_choice(), build_info)
if not loaded and _choice() != "reference":
    _warn("fastvae", reason)
cuda_loaded, cuda_reason = _load_cuda(_choice(), build_info)
if _is_first():
    logging.getLogger("fastvae").info("backend: %s (%s)", "native" if loaded else "reference", reason)
