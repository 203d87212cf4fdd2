"""Worker processes read the same batches as the training process; one that dies or hangs is named with its file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fastvae.data import Draws, Loader, LoadError, Loading, Prefetcher, Preprocess, Source, evaluation_batches
from fastvae.data.files.reading import reading
from fastvae.data.files.tar import TarShards
from fastvae.data.pixels.augment import Augmentation
from fastvae.data.pixels.config import ImagesConfig
from fastvae.data.pixels.images import load_folder
from fastvae.data.source import DatasetSource
from fastvae.data.views import split_every
from tests import launching
from tests.data.test_shards import tar_folder, write_tar

STEPS = 12
CHAIN = ImagesConfig(size=8, augment=("random-resized-crop", "flip", "colour-jitter"))


def write_images(folder: Path, number: int = 21) -> Path:
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        width, height = rng.integers(9, 20, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.{'jpg' if index % 2 else 'png'}")
    return folder


class Items:
    """A user's indexable data set."""

    def __len__(self) -> int:
        return 21

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((2, 3), float(index)), index % 2


def source_of(kind: str, folder: Path) -> Source:
    if kind == "images":
        images = load_folder(write_images(folder), max_bytes=2**30, config=CHAIN)
        return split_every(images, 10)[0]
    if kind == "images in tar":
        members = [(path.name, path.read_bytes()) for path in sorted(write_images(folder / "images").iterdir())]
        write_tar(folder / "a.tar", members)
        return TarShards(folder, max_bytes=2**20, transforms=Augmentation(CHAIN))
    if kind == "tar":
        tar_folder(folder, [8, 13])
        return TarShards(folder, max_bytes=2**20)
    return DatasetSource(Items())


def batches(source: Source, workers: int, *, rank: int = 0, world_size: int = 1, start: int = 0) -> list[Tensor]:
    loader = Loader(
        source,
        Preprocess(),
        global_batch_size=6,
        seed=7,
        rank=rank,
        world_size=world_size,
        accumulation=2,
        loading=Loading(workers=workers),
    )
    with Prefetcher(loader, start, STEPS, timeout_s=60) as prefetcher:
        return [torch.cat([micro.batch.x for micro in micros]) for micros in prefetcher]


@pytest.mark.parametrize("kind", ["images", "images in tar", "tar", "dataset"])
def test_batches_are_equal_for_any_number_of_workers_and_ranks_and_after_a_resume(kind: str, tmp_path: Path) -> None:
    source = source_of(kind, tmp_path)
    expected = torch.stack(batches(source, 0))
    for workers in (1, 2, 3):
        assert torch.equal(torch.stack(batches(source, workers)), expected)
    ranks = [torch.stack(batches(source, 1 + rank, rank=rank, world_size=2)) for rank in (0, 1)]
    assert torch.equal(torch.cat(ranks, dim=1), expected)
    assert torch.equal(torch.stack(batches(source, 2, start=5)), expected[5:])  # in the middle of the second epoch


def test_images_in_shards_are_transformed_like_those_in_a_folder(tmp_path: Path) -> None:
    shards, folder = source_of("images in tar", tmp_path), load_folder(tmp_path / "images", max_bytes=1, config=CHAIN)
    indices, draws = torch.tensor([4, 0, 20]), Draws(seed=1, visits=torch.tensor([2, 0, 1]))
    assert torch.equal(shards[indices], folder[indices])
    assert torch.equal(shards.drawn(indices, draws), folder.drawn(indices, draws))


def test_arrays_in_shards_are_not_transformed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its examples are arrays, which are not resized or augmented"):
        TarShards(tar_folder(tmp_path, [3]), max_bytes=2**20, transforms=Augmentation(CHAIN))


def test_evaluation_is_equal_and_not_augmented(tmp_path: Path) -> None:
    write_images(tmp_path)
    augmented, plain = (
        load_folder(tmp_path, max_bytes=2**30, config=config) for config in (CHAIN, ImagesConfig(size=8))
    )
    found = [
        torch.cat(
            [micro.batch.x for micro in evaluation_batches(source, Preprocess(), batch_size=4, seed=0, loading=loading)]
        )
        for source, loading in ((plain, None), (augmented, None), (augmented, Loading(workers=2)))
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


class Faulty(Source):
    """Reading example 5 goes wrong, as ``how`` says."""

    event_shape = (2,)
    dtype = torch.float32
    levels = None
    in_memory = False
    is_decoded = True

    def __init__(self, how: str) -> None:
        self._how = how

    def __len__(self) -> int:
        return 12

    def __getitem__(self, indices: Tensor) -> Tensor:
        for index in indices.tolist():
            reading(f"/photos/{index}.png")
            if index == 5 and self._how == "raises":
                raise ValueError("/photos/5.png: the image is truncated")
            if index == 5 and self._how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if index == 5 and self._how == "freezes":
                os.kill(os.getpid(), signal.SIGSTOP)
            if index == 5 and self._how == "exits":
                sys.exit(3)
            while index == 5 and self._how == "hangs":
                time.sleep(0.01)
        return indices[:, None].to(torch.float32).repeat(1, 2)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", r"the batch of step \d+ could not be loaded: ValueError: /photos/5.png: the image is truncated"),
        ("dies", r"could not be loaded: WorkerFailed: worker process \d+ died while it read /photos/5.png"),
        ("hangs", r"WorkerFailed: the worker processes read nothing for 2 s .*they were at .*/photos/5.png"),
        ("freezes", r"WorkerFailed: the worker processes read nothing for 2 s .*they were at .*/photos/5.png"),
        ("exits", r"could not be loaded: RuntimeError: SystemExit: 3"),
    ],
)
def test_a_fault_names_the_file(how: str, message: str) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    loader = Loader(Faulty(how), Preprocess(), global_batch_size=4, seed=1, loading=Loading(workers=2))
    kind = RuntimeError if how == "exits" else LoadError
    with Prefetcher(loader, 0, 30, timeout_s=2) as prefetcher, pytest.raises(kind, match=message):
        list(prefetcher)
    assert signal.getsignal(signal.SIGCHLD) == handler


@pytest.mark.parametrize("how", ["dies", "freezes"])
def test_a_fault_during_an_evaluation_names_the_file(how: str) -> None:
    loading = Loading(workers=2)
    batches = evaluation_batches(Faulty(how), Preprocess(), batch_size=4, seed=0, loading=loading, timeout_s=2)
    with pytest.raises(ValueError, match=r"/photos/5.png"):
        list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_replaces_no_example_and_says_so(workers: int) -> None:
    loading = Loading(workers=workers, on_bad_example="replace")
    batches = evaluation_batches(Faulty("raises"), Preprocess(), batch_size=4, seed=0, loading=loading)
    with pytest.raises(ValueError, match=r"it is one of the examples 4 .. 7 of an evaluation, which are never"):
        list(batches)


def test_other_data_loaders_of_the_process_do_not_see_our_workers_end() -> None:
    """PyTorch's loader has a handler for the whole process, which raises where a worker of any loader is killed."""
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        set_handler()  # as a DataLoader with workers does
        assert len(batches(Faulty("never"), 2)) == STEPS
    finally:
        signal.signal(signal.SIGCHLD, handler)


def set_handler() -> None:
    from torch.utils.data._utils.signal_handling import _error_if_any_worker_fails

    signal.signal(signal.SIGCHLD, lambda number, frame: _error_if_any_worker_fails())


def test_a_bad_example_is_replaced_by_the_same_one_on_any_number_of_ranks() -> None:
    def rows(rank: int, world_size: int, workers: int) -> tuple[list[list[int]], list[str]]:
        loader = Loader(
            Faulty("raises"),
            Preprocess(),
            global_batch_size=4,
            seed=1,
            rank=rank,
            world_size=world_size,
            loading=Loading(workers=workers, on_bad_example="replace"),
        )
        with Prefetcher(loader, 0, 9) as prefetcher:
            found = [micros[0].batch.rows.tolist() for micros in prefetcher]
        return found, prefetcher.replaced

    expected, replaced = rows(0, 1, 0)
    assert len(replaced) == 3  # once in each of three epochs
    assert all("5.png: the image is truncated" in reason for reason in replaced)
    assert all(len(step) == 4 and 5 not in step for step in expected)
    assert rows(0, 1, 2) == (expected, replaced)
    (first, _), (second, _) = rows(0, 2, 0), rows(1, 2, 1)
    assert [a + b for a, b in zip(first, second, strict=True)] == expected


ORPHANS = """
import os, signal, sys
from tests.data.test_workers import Faulty
from fastvae.data import Draws, Loader, Loading, Prefetcher, Preprocess
loader = Loader(Faulty("never"), Preprocess(), global_batch_size=4, seed=1, loading=Loading(workers=2))
prefetcher = Prefetcher(loader, 0, 1000)
next(prefetcher)
print(*prefetcher._workers._pids.tolist(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_process_that_is_killed() -> None:
    result = subprocess.run(
        [sys.executable, "-c", ORPHANS], env=launching.environment(), capture_output=True, text=True, check=False
    )
    pids = [int(word) for word in result.stdout.split()]
    assert len(pids) == 2, result.stderr
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "2"}, "workers must be a whole number >= 0, or auto, got '2'"),
        ({"workers": -1}, "workers must be a whole number >= 0, or auto, got -1"),
        ({"prefetch": 0}, "prefetch must be at least 1 batch of each worker, got 0"),
        ({"on_bad_example": "skip"}, "on_bad_example must be one of stop, replace, got 'skip'"),
    ],
)
def test_invalid_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loading(**options)  # type: ignore[arg-type]
