"""CPU cores and memory that a job requests per GPU."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from fastvae.cluster.client import ask_slurm

_DEFAULT_CPUS, _DEFAULT_GIB = 8, 32
_KEPT_BACK = 0.95  # fraction of a node's memory: the rest is for the system
_GPUS = re.compile(r"gpu(?::[^:,()]+)?:(\d+)")


@dataclass(frozen=True, kw_only=True)
class GPUShare:
    """The share of a node of one GPU."""

    cpus: int
    """CPU cores."""
    gib: int
    """Host memory in GiB."""
    reason: str
    """Origin of the numbers."""


def share_of_a_gpu(partition: str | None) -> GPUShare:
    """Return a GPU's share of the smallest node with GPUs listed by ``sinfo``, or a default.

    Args:
        partition: partition of the job; None is the cluster's default.
    """
    if shutil.which("sinfo") is None:
        return _default("sinfo is not available")
    words = ["sinfo", "--noheader", "--Node", "--format=%P|%c|%m|%G", *([f"--partition={partition}"] * bool(partition))]
    try:
        listed = ask_slurm(*words)
    except ValueError as error:
        return _default(str(error).partition("\n")[0])
    shares = [
        (int(cpus) // gpus, int(int(mib) * _KEPT_BACK / 1024) // gpus)
        for name, cpus, mib, gres in (line.split("|") for line in listed.split())
        if (partition or name.endswith("*")) and (gpus := sum(map(int, _GPUS.findall(gres))))
    ]
    if not shares or min(map(min, shares)) < 1:
        return _default(f"sinfo lists no GPUs in {f'partition {partition}' if partition else 'the default partition'}")
    cpus, gib = (min(each) for each in zip(*shares, strict=True))
    return GPUShare(cpus=cpus, gib=gib, reason="a GPU's share of the smallest node that sinfo lists")


def _default(why: str) -> GPUShare:
    return GPUShare(cpus=_DEFAULT_CPUS, gib=_DEFAULT_GIB, reason=f"the default, because {why}")
