"""How many CPU cores and how much memory a job requests with each GPU."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from fastvae.cluster.client import ask_slurm

_DEFAULT_CPUS, _DEFAULT_GIB = 8, 32
_KEPT_BACK = 0.95  # of a node's memory: the rest is the system's
_GPUS = re.compile(r"gpu(?::[^:,()]+)?:(\d+)")


@dataclass(frozen=True, kw_only=True)
class GPUShare:
    """What belongs to one GPU of a node."""

    cpus: int
    """CPU cores."""
    gib: int
    """Memory of the host in GiB."""
    reason: str
    """Where the numbers are from."""


def share_of_a_gpu(partition: str | None) -> GPUShare:
    """A GPU's share of the smallest node with GPUs, as ``sinfo`` lists them; a default where it does not say.

    Args:
        partition: the job's; None is the cluster's default partition.
    """
    if shutil.which("sinfo") is None:
        return _default("there is no sinfo here")
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
