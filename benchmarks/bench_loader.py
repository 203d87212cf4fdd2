"""Images from files: how many of them per second our loader, and others, read, crop and collate with worker processes.

    python benchmarks/bench_loader.py [--images 600] [--rounds 5] [--workers 1 2]

The images are the photographs of BSDS500 ($FASTVAE_DATA/photographs/bsds500), scaled to 640 x 427 pixels, saved as
JPEGs of quality 90 and copied; without them, noise of the same size. Each contender reads random 256-pixel crops (of
the largest square, resized) with a flip, in random order where it can, in batches of 64. They take turns in one run. A
turn is timed from the first batch to the last, so the start of the workers does not count; processor time includes it.
The contenders are a ``Dataset`` with ``DataLoader`` as ImageFolder's, and webdataset if it is installed.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastvae.bench import options_parser, report, this_machine
from fastvae.data import DataConfig, ImagesConfig, Loader, Loading, Prefetcher, build_data
from fastvae.data.files.places import data_places
from fastvae.records import Batch

SIZE, WIDTH, HEIGHT, BATCH = 256, 640, 427, 64
OURS = ("fastvae, folder", "fastvae, tar shards")
PLAIN, WEBDATASET = "Dataset and DataLoader, folder", "webdataset, tar shards"
Contender = Callable[[int], Iterator[Any]]  # from a number of workers to batches


def write_images(folder: Path, number: int) -> None:
    """Write JPEGs of 640 x 427 pixels to ``folder/images``, and the same in tar shards of 100 to ``folder/shards``."""
    (folder / "images").mkdir()
    (folder / "shards").mkdir()
    contents = list(jpegs())
    for start in range(0, number, 100):
        with tarfile.open(folder / "shards" / f"{start:06}.tar", "w") as shard:
            for index in range(start, min(start + 100, number)):
                content = contents[index % len(contents)]
                (folder / "images" / f"{index:06}.jpg").write_bytes(content)
                member = tarfile.TarInfo(f"{index:06}.jpg")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


def jpegs() -> Iterator[bytes]:
    """Yield the photographs as files, or noise."""
    paths = [path for place in data_places(["photographs/bsds500"]) for path in sorted(place.glob("*.jpg"))][:200]
    pictures: Iterable[Image.Image] = (Image.open(path).convert("RGB") for path in paths)
    if not paths:
        noise = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 3), dtype=np.uint8)
        pictures = map(Image.fromarray, noise)
    for picture in pictures:
        upright = picture if picture.width >= picture.height else picture.transpose(Image.Transpose.ROTATE_90)
        file = io.BytesIO()
        upright.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        yield file.getvalue()


def our_loader(path: Path) -> Contender:
    """Our loader on a folder of images or shards, as a run has it."""
    images = ImagesConfig(size=SIZE, augment=("random-crop", "flip"))
    data = build_data(DataConfig(name="pixels", path=path, images=images))

    def batches(workers: int) -> Iterator[Any]:
        batch = min(BATCH, len(data.train))
        loader = Loader(data.train, Raw(), global_batch_size=batch, seed=0, loading=Loading(workers=workers))
        with Prefetcher(loader, 0, max(2, len(data.train) // batch)) as prefetcher:
            yield from prefetcher

    return batches


class Raw:
    """Preprocessing that leaves the pixels as they are: the other contenders do not scale them either."""

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Any:
        return Batch(x=raw, target=raw)

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        return None

    def mean(self, raw: Tensor) -> None:
        return None


def transformed(image: Image.Image) -> Tensor:
    """The same transformation with Python's random numbers."""
    image = image.convert("RGB")
    side = min(image.size)
    left, top = random.uniform(0, image.width - side), random.uniform(0, image.height - side)
    image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Folder(Dataset[Tensor]):
    """What ImageFolder does."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        with self._paths[index].open("rb") as file:
            return transformed(Image.open(file))


def plain(folder: Path) -> Contender:
    """PyTorch's own loader."""
    dataset = Folder(folder)
    return lambda workers: iter(DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True))


def webdataset_loader(folder: Path) -> Contender:
    """Webdataset, shuffled in a buffer."""
    import webdataset

    shards = [str(path) for path in sorted(folder.glob("*.tar"))]

    def batches(workers: int) -> Iterator[Any]:
        dataset = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(500).decode("pil")
        dataset = dataset.to_tuple("jpg").map_tuple(transformed).batched(BATCH, partial=False)
        return iter(webdataset.WebLoader(dataset, batch_size=None, num_workers=workers))

    return batches


def contenders_in(folder: Path) -> dict[str, Contender]:
    """All contenders that are installed, by name."""
    found = dict(zip(OURS, map(our_loader, (folder / "images", folder / "shards")), strict=True))
    found[PLAIN] = plain(folder / "images")
    if find_spec("webdataset") is not None:
        found[WEBDATASET] = webdataset_loader(folder / "shards")
    return found


def measure_turn(contender: Contender, workers: int) -> tuple[float, float]:
    """Return the images per second and the processor seconds per image of one pass."""
    before = processor_seconds()
    batches = contender(workers)
    next(batches)
    began, number = time.perf_counter(), 0
    for _ in batches:
        number += 1
    seconds = time.perf_counter() - began
    del batches  # its workers end, so that their time is counted
    return number * BATCH / seconds, (processor_seconds() - before) / ((number + 1) * BATCH)


def processor_seconds() -> float:
    """User and system time of this process and of those that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each contender and number of workers."""
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        write_images(Path(scratch), options.images)
        contenders = contenders_in(Path(scratch))
        cases = [(name, workers) for workers in options.workers for name in contenders]
        found: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
        for turn in range(options.rounds + 1):
            for name, workers in order.sample(cases, len(cases)):
                values = measure_turn(contenders[name], workers)
                if turn:  # the first turn fills the caches of the file system
                    found[name, workers].append(values)
    rates = {case: statistics.median(rate for rate, _ in values) for case, values in found.items()}
    return [
        {
            "contender": name,
            "workers": workers,
            "images_per_s": rates[name, workers],
            "images_per_s_min": min(rate for rate, _ in found[name, workers]),
            "images_per_s_max": max(rate for rate, _ in found[name, workers]),
            "cpu_ms_per_image": 1000 * statistics.median(cpu for _, cpu in found[name, workers]),
            "of_the_fastest": rates[name, workers] / max(rates[other, workers] for other in contenders),
            "over_plain": rates[name, workers] / rates[PLAIN, workers],
        }
        for name, workers in cases
    ]


def test_loader(benchmark: Any) -> None:
    rows = benchmark(measure, argparse.Namespace(images=200, rounds=1, workers=[1]))
    assert {row["contender"] for row in rows} >= {*OURS, PLAIN}
    assert all(row["images_per_s"] > 0 for row in rows)


def main() -> int:
    parser = options_parser("Measure loaders of images.", Path(__file__).parent / "results")
    parser.add_argument("--images", type=int, default=600, help="number of images")
    parser.add_argument("--rounds", type=int, default=5, help="number of passes of each contender")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of worker processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options)
    header = ["loader", "workers", "images/s", "least", "most", "CPU ms/image", "of the fastest", "over DataLoader"]
    lines = [
        [
            row["contender"],
            str(row["workers"]),
            *(f"{row[name]:.0f}" for name in ("images_per_s", "images_per_s_min", "images_per_s_max")),
            *(f"{row[name]:.2f}" for name in ("cpu_ms_per_image", "of_the_fastest", "over_plain")),
        ]
        for row in rows
    ]
    tables = [report.markdown(header, lines)]
    print(tables[0])
    if options.out is not None:
        machine = this_machine("cpu")
        how = f"Medians of {options.rounds} passes over {options.images} JPEGs of {WIDTH} x {HEIGHT} pixels, in turns; "
        note = f"made by `python benchmarks/bench_loader.py --images {options.images} --rounds {options.rounds}`."
        path = report.write_page(options.out, "loader", machine, tables, note, how)
        report.write_rows(path.with_suffix(".csv"), rows, machine)
        print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
