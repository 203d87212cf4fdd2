"""Commands about this machine: `doctor` and `bench`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastvae.settings import Settings


@dataclass(frozen=True)
class Doctor(Settings):
    """Report what is installed, which backend is used and why, and the commands that fix what is missing."""

    def __call__(self) -> int:
        from fastvae import doctor  # imported here: it imports PyTorch, which the list of commands does not need

        print(doctor.report_text())
        return 0


@dataclass(frozen=True)
class Bench(Settings):
    """Benchmark the operators on this machine against eager PyTorch and memory bandwidth."""

    operator: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[OPERATOR]")] = None
    """One operator, such as gaussian_rsample_kl, or noise; None measures all."""
    shape: tuple[int, ...] | None = None
    """Size of each axis, such as 8192 512 (batch, dimensions); None is the operator's own."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Type of the inputs."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device."""
    compiled: bool = False
    """Also measure torch.compile of the eager expression; takes seconds to compile."""
    seconds: float = 2.0
    """Time per case in seconds."""
    json: bool = False
    """Print one JSON object instead of a table."""
    csv: Path | None = None
    """Also write a CSV file with one line per call."""
    plot: Path | None = None
    """Also sweep the batch size and plot it against GB/s."""

    def __call__(self) -> int:
        from fastvae import bench  # imported here: it imports PyTorch

        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        print(bench.run_bench(**options))
        return 0
