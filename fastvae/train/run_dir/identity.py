"""The identity of a run: the structure of its model and digests of its data, which a resume compares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fastvae.data import Data, Source, describe

_MAX_BYTES = 32 * 2**20
_CHUNK_BYTES = 2**20
_NUM_READ = 16


def identify(models: Mapping[str, nn.Module], data: Data) -> dict[str, Any]:
    """Return the structure of each player's unwrapped model and a digest of the data, as JSON values.

    For an array, in memory or memory-mapped, the digest reads at most 32 MiB of the training and of the test examples,
    evenly spaced, so it covers every number of a smaller array; for any other source, it reads 16 examples of each
    set, since the source need not be in memory. Examples that a source samples randomly at each reading are excluded.
    """
    return {
        "model": [f"{name}: {line}" for name, model in models.items() for line in _structure(model)],
        "data": {
            "name": data.name,
            "description": hashlib.sha256(describe(data)).hexdigest(),
            "train": _describe_source(data.train),
            "test": _describe_source(data.test),
            "validation": None if data.validation is None else _describe_source(data.validation),
        },
    }


def check_belongs(run_dir: Path, record: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Check that a run directory belongs to this data and this model.

    Args:
        run_dir: the run directory.
        record: contents of its ``run.json``.
        found: identity of the present model and data, from `identify`.

    Raises:
        ValueError: data or model differ; the message names the difference.
    """
    remedy = "choose another run directory, remove that one, or give the"
    was, now = record.get("data"), found["data"]
    if was != now:
        raise ValueError(
            f"train: {run_dir} holds a run on other data ({data_difference(was, now)}); {remedy} data that it was "
            "trained on"
        )
    was, now = record.get("model"), found["model"]
    if was != now:
        was = was if isinstance(was, list) else []
        old, new = ([line for line in one if line not in other] for one, other in ((was, now), (now, was)))
        raise ValueError(
            f"train: {run_dir} holds a run of another model (was {old[0] if old else 'without'}, now "
            f"{new[0] if new else 'without'}, {len(old) + len(new)} differences in all); {remedy} model that it was "
            "trained with"
        )


def _structure(model: nn.Module) -> Iterator[str]:
    """Yield one line for each module with its class, and for each parameter and buffer with its type and shape."""
    for name, module in model.named_modules():
        yield f"{name or '(model)'}: {type(module).__qualname__}"
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        shape = "of no shape yet" if is_lazy(tensor) else str(list(tensor.shape))
        yield f"{name}: {str(tensor.dtype).removeprefix('torch.')} {shape}"


def _describe_source(source: Source) -> dict[str, Any]:
    return {"num_examples": len(source), "event_shape": list(source.event_shape), "sha256": _digest(source)}


def _digest(source: Source) -> str | None:
    """Return a digest of the examples and their conditions; None if a second reading returns other examples."""
    if source.is_array:
        return _digest_of(source, _MAX_BYTES)
    first, second = (_digest_of(source, 0) for _ in range(2))
    return first if first == second else None


def _digest_of(source: Source, max_bytes: int) -> str:
    digest = hashlib.sha256()
    example_bytes = max(1, sum(tensor.nbytes for tensor in _tensors(source[torch.zeros(1, dtype=torch.int64)])))
    num_taken = min(len(source), max(_NUM_READ, max_bytes // example_bytes))
    indices = torch.arange(num_taken) * len(source) // num_taken
    for chunk in indices.split(max(1, _CHUNK_BYTES // example_bytes)):
        for tensor in _tensors(source[chunk]):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    if source.conditions is not None:
        digest.update(_bytes(source.conditions[indices]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _tensors(raw: Any) -> list[Tensor]:
    """Return the dense tensors in raw examples: a tensor, or a record, tuple, list or mapping of tensors."""
    if isinstance(raw, Tensor):
        if raw.layout == torch.sparse_csr:
            return [raw.crow_indices(), raw.col_indices(), raw.values()]
        return [raw]
    if is_dataclass(raw):
        return [tensor for field in fields(raw) for tensor in _tensors(getattr(raw, field.name))]
    if isinstance(raw, Mapping):
        raw = tuple(raw.values())
    return [tensor for item in raw for tensor in _tensors(item)] if isinstance(raw, tuple | list) else []


def data_difference(was: Any, now: Mapping[str, Any]) -> str:
    """Describe the first entry that differs; the digests themselves are not shown."""
    was = was if isinstance(was, Mapping) else {}
    for name, value in now.items():
        if was.get(name) == value:
            continue
        if not isinstance(value, Mapping):
            return f"{name} was {was.get(name)!r}, now {value!r}" if name == "name" else f"their {name} differs"
        before = was[name] if isinstance(was.get(name), Mapping) else {}
        for key, number in value.items():
            if before.get(key) != number:
                values = "have other values" if key == "sha256" else f"{key} was {before.get(key)}, now {number}"
                return f"{name} examples: {values}"
    return "the run kept more of them"
