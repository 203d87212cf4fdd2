"""The hardware and software that a measurement was made on."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

from fastvae._version import __version__
from fastvae.ops import native


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware, versions and load of a machine."""

    hardware: str
    """The processor or GPU that the calls run on."""
    cpu: str
    """The processor and its instruction set."""
    threads: int
    """Number of threads that PyTorch uses on the CPU."""
    load: float
    """Load average of the last minute, including this process."""
    backend: str
    """The operators' backend and the reason for it."""
    versions: str
    """Versions of the software."""
    date: str
    """Date and time in ISO format, UTC."""

    @property
    def slug(self) -> str:
        """The hardware as a part of a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.hardware.lower()).strip("-")

    @property
    def month(self) -> str:
        """Year and month, for example 202611."""
        return self.date[:7].replace("-", "")


def this_machine(device: torch.device | str = "cpu") -> Machine:
    """Describe this machine for measurements on ``device``."""
    device = torch.device(device)
    threads, cpu = torch.get_num_threads(), _cpu_name()
    versions = {"fastvae": __version__, "torch": torch.__version__, "Python": platform.python_version()}
    hardware = f"{cpu}, {threads} thread{'s' if threads > 1 else ''}"
    is_native, reason = native.loaded, native.reason
    if device.type == "cuda":
        is_native, reason = native.cuda_loaded, native.cuda_reason
        hardware = torch.cuda.get_device_name(device)
        versions["CUDA"] = str(torch.version.cuda)
    return Machine(
        hardware=hardware,
        cpu=f"{cpu}, torch {torch.backends.cpu.get_cpu_capability()}",
        threads=threads,
        load=os.getloadavg()[0],
        backend=f"{'native' if is_native else 'reference'} ({reason})",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
    )


def _cpu_name() -> str:
    """The processor's name from /proc/cpuinfo, or else from Python's ``platform``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
