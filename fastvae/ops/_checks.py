"""The checks of the operators' input, in one place and with the same messages on every backend: rule, value, remedy."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_MAX_COLUMNS = 2**34  # a counter word holds column // 4
_MAX_STREAM = 2**32
MAX_SAMPLES = 2**16  # the sample has sixteen bits of the stream


def same_shape(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes are equal: a size is compared only with its counterpart, the last ones first.

    ``torch.export`` guards on every comparison, and must not learn that a dynamic batch differs from an event's size.
    """
    return len(a) == len(b) and all(m == n for m, n in zip(reversed(a), reversed(b), strict=True))


def check_tensor(where: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{where}: {name} must be a Tensor, got {type(value).__name__}")


def check_key(where: str, key: Tensor, device: torch.device | None = None) -> None:
    check_tensor(where, "key", key)
    if key.dtype != torch.int64:
        raise TypeError(f"{where}: key must be int64, got {key.dtype}; make it with fastvae.noise_key")
    if key.shape != (3,):
        raise ValueError(
            f"{where}: key must have shape [3] (seed, step, first_row), got {list(key.shape)}; "
            "make it with fastvae.noise_key"
        )
    if device is not None and key.device != device:
        raise ValueError(
            f"{where}: key must be on mu's device {device}, got {key.device}; move it with key.to({str(device)!r})"
        )


def check_stream(where: str, stream: int) -> None:
    remedy = "make it with fastvae.ops.stream"
    if not isinstance(stream, int):
        raise TypeError(f"{where}: stream must be an integer, got {type(stream).__name__}; {remedy}")
    if not 0 <= stream < _MAX_STREAM:
        raise ValueError(f"{where}: stream must be at least 0 and below 2**32, got {stream}; {remedy}")


def check_columns(where: str, columns: int) -> None:
    if columns > _MAX_COLUMNS:
        raise ValueError(
            f"{where}: an example must have at most 2**34 columns of noise, got {columns}; split it over streams"
        )


def check_floating(where: str, name: str, x: Tensor) -> None:
    check_tensor(where, name, x)
    if x.dtype not in FLOATING:
        raise TypeError(
            f"{where}: {name} must be float32, bfloat16, float16 or float64, got {x.dtype}; convert it with .float()"
        )


def promoted(*tensors: Any) -> tuple[Any, ...]:
    """Under autocast, the tensors in their widest dtype, as torch's own operators promote them; otherwise unchanged."""
    given = [x for x in tensors if isinstance(x, Tensor) and x.dtype in FLOATING]
    if len({x.dtype for x in given}) < 2 or not torch.is_autocast_enabled(given[0].device.type):
        return tensors
    widest = functools.reduce(torch.promote_types, (x.dtype for x in given))
    return tuple(x.to(widest) if isinstance(x, Tensor) and x.dtype in FLOATING else x for x in tensors)


def promoted_parameter(output: Any, parameter: Any) -> tuple[Any, ...]:
    """Like ``promoted``, for a decoder's output and a likelihood's parameter, which may always be float32."""
    is_allowed = isinstance(parameter, Tensor) and parameter.dtype == torch.float32
    return (output, parameter) if is_allowed else promoted(output, parameter)


def check_same(where: str, name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """``x`` must have the shape, dtype and device of ``like``."""
    check_tensor(where, name, x)
    if not same_shape(x.shape, like.shape):
        raise ValueError(f"{where}: {name} must have {like_name}'s shape {list(like.shape)}, got {list(x.shape)}")
    if x.dtype != like.dtype:
        raise TypeError(f"{where}: {name} must have {like_name}'s dtype {like.dtype}, got {x.dtype}; convert one")
    if x.device != like.device:
        raise ValueError(f"{where}: {name} must be on {like_name}'s device {like.device}, got {x.device}; move one")


def check_gaussian(where: str, mu: Tensor, logvar: Tensor, key: Tensor, stream: int) -> None:
    """``mu`` and ``logvar`` [B, ...] of one shape, floating dtype and device; the key on that device."""
    check_floating(where, "mu", mu)
    if mu.dim() == 0:
        raise ValueError(f"{where}: mu must have shape [B, ...], got []; add the dimension with mu.unsqueeze(0)")
    check_same(where, "logvar", logvar, "mu", mu)
    check_key(where, key, mu.device)
    check_stream(where, stream)
    check_columns(where, math.prod(mu.shape[1:]))


def check_prior(where: str, name: str, x: Tensor, mu: Tensor) -> None:
    """A prior's parameter has mu's shape or that of one example, mu's dtype and device."""
    check_tensor(where, name, x)
    if same_shape(x.shape, mu.shape[1:]):
        x = x.expand(mu.shape)
    check_same(where, name, x, "mu", mu)


def check_output(where: str, name: str, output: Tensor, target_name: str, target: Tensor) -> None:
    """A decoder's output [B, ...], or [K, B, ...] of K importance samples, for data [B, ...] on its device."""
    check_floating(where, name, output)
    check_tensor(where, target_name, target)
    if target.dim() == 0:
        raise ValueError(
            f"{where}: {target_name} must have shape [B, ...], got []; add the dimension with unsqueeze(0)"
        )
    if not same_shape(output.shape, target.shape) and not same_shape(output.shape[1:], target.shape):
        raise ValueError(
            f"{where}: {name} must have {target_name}'s shape {list(target.shape)}, or [K, *that] of K samples, "
            f"got {list(output.shape)}; reshape one"
        )
    if target.device != output.device:
        raise ValueError(
            f"{where}: {target_name} must be on {name}'s device {output.device}, got {target.device}; move one"
        )


def check_mask(where: str, mask: Tensor | None, target: Tensor) -> Tensor | None:
    """The mask as bool, of the target's shape and device."""
    if mask is None:
        return None
    check_tensor(where, "mask", mask)
    if mask.shape != target.shape:
        raise ValueError(
            f"{where}: mask must have target's shape {list(target.shape)}, got {list(mask.shape)}; expand it"
        )
    if mask.device != target.device:
        raise ValueError(f"{where}: mask must be on target's device {target.device}, got {mask.device}; move one")
    return mask if mask.dtype == torch.bool else mask != 0


def check_spread(where: str, name: str, parameter: Tensor, output_name: str, output: Tensor, target: Tensor) -> None:
    """A likelihood's parameter: one number, one for each dimension, or one for each element of the output."""
    check_tensor(where, name, parameter)
    if parameter.dtype not in (output.dtype, torch.float32):
        raise TypeError(
            f"{where}: {name} must have {output_name}'s dtype {output.dtype} or be float32, got {parameter.dtype}; "
            "convert it"
        )
    fits = parameter.numel() == 1 or same_shape(parameter.shape, target.shape[1:])
    if not fits and not same_shape(parameter.shape, output.shape):
        raise ValueError(
            f"{where}: {name} must be one number, or have an example's shape {list(target.shape[1:])} or "
            f"{output_name}'s shape {list(output.shape)}, got {list(parameter.shape)}; expand it"
        )
    if parameter.device != output.device:
        raise ValueError(
            f"{where}: {name} must be on {output_name}'s device {output.device}, got {parameter.device}; move one"
        )


def check_choice(where: str, name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ValueError(f"{where}: {name} must be one of {', '.join(choices)}, got {value!r}")


def check_size(where: str, name: str, value: int) -> None:
    if not isinstance(value, int | torch.SymInt):
        raise TypeError(f"{where}: {name} must be an integer, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{where}: {name} must be at least 0, got {value}")


def check_levels(where: str, num_levels: int) -> None:
    check_size(where, "num_levels", num_levels)
    if num_levels < 2:
        raise ValueError(f"{where}: num_levels must be at least 2, got {num_levels}; 256 is that of 8-bit pixels")


def check_out(where: str, out: Tensor, shape: tuple[int, int], device: torch.device) -> None:
    """``out`` must be a float32 tensor with the shape and device of the result, contiguous."""
    check_tensor(where, "out", out)
    if out.dtype != torch.float32:
        raise TypeError(f"{where}: out must be float32, got {out.dtype}; convert the noise afterwards")
    if out.shape != shape or not out.is_contiguous():
        raise ValueError(
            f"{where}: out must have shape {list(shape)} and be contiguous, got {list(out.shape)}; "
            "leave it out for a new tensor"
        )
    if out.device != device:
        raise ValueError(f"{where}: out must be on the key's device {device}, got {out.device}; move one")
    if out.requires_grad:
        raise ValueError(f"{where}: out is overwritten and gets no gradient; give out.detach()")


def check_samples(where: str, num_samples: int, first_sample: int, stream: int) -> None:
    """The samples first_sample to first_sample + num_samples - 1 must fit the stream's sixteen bits."""
    check_size(where, "num_samples", num_samples)
    check_size(where, "first_sample", first_sample)
    last = (stream & (MAX_SAMPLES - 1)) + first_sample + num_samples
    if last > MAX_SAMPLES:
        raise ValueError(
            f"{where}: stream's sample + first_sample + num_samples must be at most {MAX_SAMPLES}, got {last}; "
            "draw further samples under another step of the key"
        )
