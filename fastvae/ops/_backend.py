"""The kernels that run, as the dispatcher reports them for each operator and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from fastvae.ops import _native
from fastvae.ops._library import NAMESPACE, operators

_DEVICES = ("CPU", "CUDA")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The kernel that runs when an operator is called on a kind of device."""

    operator: str
    """Its name in ``torch.ops.fastvae``."""
    device: str
    """cpu or cuda."""
    name: Literal["native", "reference"]
    """The backend."""
    reason: str
    """The reason; for the reference, the loader's own message."""


def backend() -> tuple[Backend, ...]:
    """The backend of every operator on every kind of device that the library supports, with the reason."""
    return tuple(_backend_on(operator, device) for operator in operators() for device in _DEVICES)


def _backend_on(operator: str, device: str) -> Backend:
    key = getattr(torch._C.DispatchKey, device)
    if getattr(getattr(torch.ops, NAMESPACE), operator).default.has_kernel_for_dispatch_key(key):
        return Backend(operator=operator, device=device.lower(), name="native", reason="the native library is loaded")
    loaded, reason = _native.loaded, _native.reason
    if device == "CUDA":
        loaded, reason = _native.cuda_loaded, _native.cuda_reason
    reason = "the native library has no such kernel" if loaded else reason
    return Backend(operator=operator, device=device.lower(), name="reference", reason=reason)
