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
    """Say what is installed, which backend runs and why, and what to run to fix what is missing."""

    def __call__(self) -> int:
        from fastvae import doctor  # here: it imports PyTorch, which the list of commands does without

        print(doctor.report_text())
        return 0


@dataclass(frozen=True)
class Bench(Settings):
    """Measure the operators on this machine, beside eager PyTorch and the speed of memory."""

    operator: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[OPERATOR]")] = None
    """One operator, such as gaussian_rsample_kl, or noise; None measures all."""
    shape: tuple[int, ...] | None = None
    """Size of each axis, such as 8192 512 (batch, dimensions); None is the operator's own."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Type of the inputs."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    compiled: bool = False
    """Also measure torch.compile of the eager expression; takes seconds to compile."""
    seconds: float = 2.0
    """Time for each case."""
    json: bool = False
    """Print one JSON object instead of a table."""
    csv: Path | None = None
    """Also write a CSV file, a line for each call."""
    plot: Path | None = None
    """Also sweep the batch size and draw size against GB/s."""

    def __call__(self) -> int:
        from fastvae import bench  # here: it imports PyTorch

        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        print(bench.run_bench(**options))
        return 0
