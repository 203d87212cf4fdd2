"""Commands of compression: `compress`, `decompress`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from fastvae import applications, run
from fastvae.applications.config import CODED_TOGETHER, MAX_COMPRESSED_GIB
from fastvae.commands.options import RunDirectory, output_file
from fastvae.settings import Settings

if TYPE_CHECKING:
    from fastvae.applications.compression import CompressionReport


@dataclass(frozen=True)
class Compress(Settings):
    """Compress a file of pixels, or a folder of images, to an .fvc file.

    `decompress` restores the file byte for byte, and every image of a folder with its name and its pixels. An .fvc file
    is one stream of bits, so one process codes it, on the CPU, whose arithmetic the decoding repeats. Under torchrun,
    rank 0 alone runs this command.
    """

    run: RunDirectory
    """Run directory of a VAE that was trained on similar images."""
    data: Path
    """An .npy file (uint8 or bool), an IDX file, or text of 0 and 1 (gzipped files are decompressed first); or a folder
    of images of the run's size."""
    out: Path
    """The .fvc file to write."""
    lossy: float | None = None
    """Lossy: store only the latents, quantised to this many posterior standard deviations; None is lossless."""
    lanes: int = CODED_TOGETHER
    """Number of examples coded together: more are faster, and need more initial bits."""
    max_gib: float = MAX_COMPRESSED_GIB
    """Largest allowed size of the decompressed input, in GiB."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __call__(self) -> int:
        out = output_file(self.out, (".fvc",))
        with progress_bar("compressing") as advance:
            report = applications.compression.compress_file(
                run.load(self.run),
                self.data,
                out,
                step=self.lossy,
                lanes=self.lanes,
                max_gib=self.max_gib,
                progress=advance,
            )
        if self.json:
            print(json.dumps(dataclasses.asdict(report)))
        else:
            print(_table(report) if report.folder is None else f"{out}: {_line(report)}")
        return 0


@dataclass(frozen=True)
class Decompress(Settings):
    """Restore the file or folder that `compress` read from an .fvc file; a file that cannot be decoded is refused.

    Under torchrun, rank 0 alone runs this command.
    """

    run: RunDirectory
    """Run directory that compressed it."""
    file: Annotated[Path, tyro.conf.Positional]
    """The .fvc file."""
    out: Path
    """The file to write, or a new folder for the images of a folder."""
    max_gib: float = MAX_COMPRESSED_GIB
    """Largest allowed size of the pixels, in GiB."""

    def __call__(self) -> int:
        with progress_bar("decompressing") as advance:
            pixels = applications.compression.decompress_file(
                run.load(self.run), self.file, self.out, max_gib=self.max_gib, progress=advance
            )
        print(f"{self.out}  {len(pixels)} examples")
        return 0


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error if it is a terminal."""
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:g} examples"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda num_examples: progress.advance(task, num_examples)


def _line(report: CompressionReport) -> str:
    """The result for a folder of images in one line."""
    return (
        f"{report.folder}; {report.pixel_bytes:,} bytes of pixels (image files: {report.original_bytes:,}) compressed"
        f" to {report.file_bytes:,}, ratio {report.pixel_bytes / report.file_bytes:.2f}"
        f" ({report.original_bytes / report.file_bytes:.2f} to the files), {report.bits_per_pixel:.4f} bits per pixel"
    )


def _table(report: CompressionReport) -> str:
    values = {name: value for name, value in dataclasses.asdict(report).items() if value is not None}
    width = max(map(len, values))
    return "\n".join(
        f"{n:{width}}  {v:.4f}" if isinstance(v, float) else f"{n:{width}}  {v}" for n, v in values.items()
    )
