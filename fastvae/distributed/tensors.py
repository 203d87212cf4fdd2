"""Tensors in safetensors files, written and read by all ranks together, whatever the number of ranks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from fastvae.distributed.world import World


def write_tensors(directory: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None) -> None:
    """Write tensors, including sharded ones, as safetensors files; called by all ranks of the group (None: one
    process).
    """
    _expect_to_be_alone()
    writer = dcp.HuggingFaceStorageWriter(str(directory), save_distributed=True)
    with _plain_errors():
        dcp.save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)


def read_tensors(directory: Path, tensors: Mapping[str, Tensor], world: World, prefix: str = "") -> None:
    """Fill tensors in place from files of ``write_tensors``, for any number of ranks; called by all together.

    Only tensors whose names start with ``prefix`` are read; ``tensors`` has their names without it.

    Raises:
        ValueError: the names or shapes differ; nothing was filled.
    """
    _expect_to_be_alone()
    reader = dcp.HuggingFaceStorageReader(str(directory))
    found = {
        name.removeprefix(prefix): getattr(value, "size", None)
        for name, value in reader.read_metadata().state_dict_metadata.items()
        if name.startswith(prefix)
    }
    wanted = {name: tensor.shape for name, tensor in tensors.items()}
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        name = differing[0]
        there, here = (shapes.get(name) for shapes in (found, wanted))
        raise ValueError(
            f"{directory}: {len(differing)} of {len(wanted)} tensors differ from this run's; {name} is "
            f"{'missing' if there is None else list(there)} in the files and "
            f"{'unknown' if here is None else list(here)} in the run"
        )
    with _plain_errors():
        named = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
        dcp.load(named, storage_reader=reader, no_dist=world.world_size == 1)


def read_whole(directory: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Read the wanted tensors of ``write_tensors`` as whole, new tensors, in this process only."""
    _expect_to_be_alone()
    reader = dcp.HuggingFaceStorageReader(str(directory))
    found = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(value.size, dtype=value.properties.dtype)
        for name, value in found.items()
        if isinstance(value, TensorStorageMetadata) and wanted(name)
    }
    with _plain_errors():
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise the error of the first failing rank instead of PyTorch's wrapper, which is not an ``Exception``."""
    try:
        yield
    except CheckpointException as account:
        cause, _ = next(iter(account.failures.values()))
        raise cause from None


def _expect_to_be_alone() -> None:
    """Ignore PyTorch's warning about saving and loading without a process group, which is intended."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
