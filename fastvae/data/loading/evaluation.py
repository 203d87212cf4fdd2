"""Batches of examples in the order of their source, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from fastvae.data.loading.loader import check_world
from fastvae.data.loading.micro_batches import MicroBatch, RawMicroBatch, prepare, read_raw
from fastvae.data.loading.settings import Loading
from fastvae.data.loading.workers import ReadingWorkers
from fastvae.data.order import share
from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Source
from fastvae.ops import noise_key
from fastvae.records import Batch


def evaluation_batches(
    source: Source,
    preprocess: Preprocessor,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    loading: Loading | None = None,
    timeout_s: float = 600.0,
) -> Iterator[MicroBatch]:
    """Yield this rank's contiguous share of the source, in order, with keys of evaluation.

    The key of a batch is ``(seed, 0, index of its first example)`` and preprocessing sets the evaluation bit, so that
    no score depends on batch size, rank or training step. Every rank gets the same number of batches, because wrapped
    models may communicate in forward; the last may be empty. ``loading`` are worker processes that read ahead, each
    batch within ``timeout_s``; None reads here.

    Raises:
        ValueError: a number is out of its range; the message states the rule and the value.
    """
    check_world(rank, world_size, seed)
    if batch_size < 1:
        raise ValueError(f"evaluation_batches: batch_size must be at least 1, got {batch_size}")
    spans = _spans(len(source), batch_size, rank, world_size)
    loading = loading or Loading(workers=0)
    return _evaluation_batches(source, preprocess, spans, seed, torch.device(device), loading, timeout_s)


def evaluation_batch(
    source: Source, preprocess: Preprocessor, first: int, stop: int, *, seed: int, device: torch.device | str = "cpu"
) -> MicroBatch:
    """Return the examples ``[first, stop)`` of a source with their key, as `evaluation_batches` does."""
    key = noise_key(seed, 0, first, device=device)
    return _evaluated(source, preprocess, torch.arange(first, stop), key, first)


def load_examples(
    source: Source, preprocess: Preprocessor, indices: Tensor, *, seed: int, device: torch.device | str = "cpu"
) -> Batch:
    """Return examples of a source at indices int64 ``[B]``, as in evaluation.

    Raises:
        ValueError: an index is out of range.
    """
    outside = indices[(indices < 0) | (indices >= len(source))]
    if len(outside):
        raise ValueError(f"examples are numbered 0 .. {len(source) - 1}, got {int(outside[0])}")
    key = noise_key(seed, 0, int(indices[0]) if len(indices) else 0, device=device)
    return _evaluated(source, preprocess, indices, key, 0).batch


def _spans(num_examples: int, batch_size: int, rank: int, world_size: int) -> list[tuple[int, int]]:
    """The first and last index of each batch of a rank, equally many for every rank."""
    start, stop = share(num_examples, world_size, rank)
    offsets = range(0, -(-num_examples // world_size), batch_size)
    return [(min(start + offset, stop), min(start + offset + batch_size, stop)) for offset in offsets]


def _evaluation_batches(
    source: Source,
    preprocess: Preprocessor,
    spans: Sequence[tuple[int, int]],
    seed: int,
    device: torch.device,
    loading: Loading,
    timeout_s: float,
) -> Iterator[MicroBatch]:
    def read(number: int) -> RawMicroBatch:
        first, stop = spans[number]
        try:
            return read_raw(source, torch.arange(first, stop), noise_key(seed, 0, first), first)
        except ValueError as error:
            if loading.on_bad_example == "stop":
                raise
            raise ValueError(
                f"{error}; it is one of the examples {first} .. {stop - 1} of an evaluation, which are never replaced: "
                "repair it, or remove it"
            ) from error

    number = loading.num_workers(source)
    if not number:
        for span in range(len(spans)):
            yield prepare(preprocess, read(span).to(device), evaluation=True)
        return
    workers = ReadingWorkers(
        read, range(len(spans)), num_workers=number, prefetch=loading.prefetch, timeout_s=timeout_s
    )
    with closing(workers):
        for _ in spans:
            yield prepare(preprocess, next(workers).to(device), evaluation=True)


def _evaluated(source: Source, preprocess: Preprocessor, indices: Tensor, key: Tensor, first_row: int) -> MicroBatch:
    return prepare(preprocess, read_raw(source, indices, key, first_row).to(key.device), evaluation=True)
