"""Commands that give numbers: `evaluate`, `score`, `encode`."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvae.commands.options import Device, OnRun, RunDirectory, load_run, output_file, row_numbers


@dataclass(frozen=True)
class Evaluate(OnRun):
    """Bounds of a finished run on its test set, in nats per example."""

    run: RunDirectory
    """The run directory."""
    num_samples: int = 100
    """Importance samples of nll_nats; with 1 it is the negative ELBO."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU where there is one."""
    json: bool = False
    """Print one JSON object instead of a table, with the lists by latent dimension."""

    def __call__(self) -> int:
        values = load_run(self.run, self.device, self.module).evaluate(self.num_samples).known()
        print(json.dumps(values) if self.json else evaluation_table(values))
        return 0


@dataclass(frozen=True)
class Score(OnRun):
    """Write how unlikely each example is, in nats: a CSV file with its number and minus its bound.

    Rows of a table have their number in the file, 1 below the header, as in `anomaly-report`; other examples count from
    0, as in `interpolate`. The score of a model that estimates no ELBO, such as a deterministic autoencoder, is its
    distortion, the squared error.
    """

    run: RunDirectory
    """The run directory."""
    out: Path
    """The CSV file."""
    data: Path | None = None
    """A file or folder of examples; None is the test set."""
    num_samples: int = 1
    """Importance samples: 1 gives minus the ELBO, more a tighter bound."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU where there is one."""

    def __call__(self) -> int:
        out = output_file(self.out)
        loaded = load_run(self.run, self.device, self.module)
        source = loaded.source(self.data or "test")
        values = loaded.score(source, num_samples=self.num_samples)
        from fastvae.generative import AnyModel  # here: it imports PyTorch

        model = AnyModel(loaded.model)
        score = "negative_elbo_nats" if self.num_samples == 1 else "nll_nats"
        is_table = loaded.data.kind == "table"
        numbers = row_numbers(source) if is_table else range(len(values))
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            name = score if model.estimates_elbo else model.distortion_name
            writer.writerow(["row" if is_table else "example", name])
            writer.writerows((n, f"{value:.6f}") for n, value in zip(numbers, values.tolist(), strict=True))
        print(f"{out}  {len(values)} examples, mean {values.mean():.4f} {model.distortion_unit}")
        return 0


@dataclass(frozen=True)
class Encode(OnRun):
    """Write the posteriors of a data set's examples: an npz file with mu and logvar [N, D], and label [N]."""

    run: RunDirectory
    """The run directory."""
    out: Path
    """The npz file."""
    split: Literal["train", "test"] = "test"
    """Which examples of the run's own data."""
    data: Path | None = None
    """A file or folder of examples, instead of the run's own."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU where there is one."""

    def __call__(self) -> int:
        out = output_file(self.out)
        print(load_run(self.run, self.device, self.module).save_latents(out, self.data or self.split))
        return 0


def evaluation_table(values: dict[str, Any]) -> str:
    """An evaluation's numbers, one a line, with their units in their names."""
    shown = {name: value for name, value in values.items() if isinstance(value, int | float)}
    width = max(map(len, shown))
    return "\n".join(f"{n:{width}}  {v:.4f}" if isinstance(v, float) else f"{n:{width}}  {v}" for n, v in shown.items())
