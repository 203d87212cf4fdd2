"""The GPUs of this machine, and which compiled code runs on them.

It queries NVIDIA's management library, so that CUDA is not initialised and the process may still fork afterwards.
"""

from __future__ import annotations

import ctypes
import os
import re

Capability = tuple[int, int]


def compute_capabilities() -> list[Capability]:
    """The compute capability of every NVIDIA GPU, as in (9, 0); [] without a driver, or where CUDA may see none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []  # no driver
    if nvml.nvmlInit_v2() != 0:
        return []  # a driver that is not running
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found = []
    for index in range(count.value):
        device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
            continue  # not ours to use
        if nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)) == 0:
            found.append((major.value, minor.value))
    nvml.nvmlShutdown()
    return found


def is_served(capability: Capability, architectures: str) -> bool:
    """Whether code for these architectures, as in 8.0;9.0+PTX, runs on a GPU of this compute capability.

    Machine code runs on its own major version, from its own minor version on; PTX is compiled by the driver for any
    later GPU. Code for 9.0a runs on 9.0 alone, and code for 10.0f on the family of 10.x.
    """
    for major, minor, kind, ptx in re.findall(r"(\d+)\.(\d)([af]?)(\+PTX)?", architectures):
        built = int(major), int(minor)
        if capability == built or (kind != "a" and capability[0] == built[0] and capability > built):
            return True
        if ptx and not kind and capability > built:
            return True
    return False
