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
    """Compress a file of pixels to an .fvc file, from which `decompress` restores it byte for byte.

    A file is one stream of bits, so one process codes it, on the CPU, whose arithmetic the decoding repeats. Under
    torchrun, rank 0 alone runs this command.
    """

    run: RunDirectory
    """Run directory of a VAE that was trained on similar images."""
    data: Path
    """An .npy file (uint8 or bool), an IDX file, or text of 0 and 1; gzipped files are decompressed first."""
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
        out = output_file(self.out)
        if self.data.is_dir():
            raise ValueError(
                f"--data: must be one file of pixels, {self.data} is a folder; write its images to an .npy file of"
                " uint8 [N, C, H, W]"
            )
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
        print(json.dumps(dataclasses.asdict(report)) if self.json else _table(report))
        return 0


@dataclass(frozen=True)
class Decompress(Settings):
    """Restore the file that `compress` read from an .fvc file; a file that cannot be decoded is refused.

    Under torchrun, rank 0 alone runs this command.
    """

    run: RunDirectory
    """Run directory that compressed it."""
    file: Annotated[Path, tyro.conf.Positional]
    """The .fvc file."""
    out: Path
    """The file to write."""
    max_gib: float = MAX_COMPRESSED_GIB
    """Largest allowed size of the pixels, in GiB."""

    def __call__(self) -> int:
        out = output_file(self.out)
        with progress_bar("decompressing") as advance:
            pixels = applications.compression.decompress_file(
                run.load(self.run), self.file, out, max_gib=self.max_gib, progress=advance
            )
        print(f"{out}  {len(pixels)} examples")
        return 0


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error if it is a terminal."""
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:g} examples"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda num_examples: progress.advance(task, num_examples)


def _table(report: CompressionReport) -> str:
    values = dataclasses.asdict(report)
    width = max(map(len, values))
    return "\n".join(
        f"{n:{width}}  {v:.4f}" if isinstance(v, float) else f"{n:{width}}  {v}" for n, v in values.items()
    )
