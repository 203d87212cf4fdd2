"""Commands that compute numbers: `evaluate`, `score`, `encode`."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvae.commands.options import Device, RunDirectory, load_run, output_file, row_numbers
from fastvae.settings import Settings


@dataclass(frozen=True)
class Evaluate(Settings):
    """Compute the bounds of a finished run on its test set, in nats per example."""

    run: RunDirectory
    """The run directory."""
    num_samples: int = 100
    """Number of importance samples of nll_nats; 1 is the negative ELBO."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""
    json: bool = False
    """Print one JSON object instead of a table, with the values per latent dimension."""

    def __call__(self) -> int:
        values = load_run(self.run, self.device).evaluate(self.num_samples).known()
        print(json.dumps(values) if self.json else evaluation_table(values))
        return 0


@dataclass(frozen=True)
class Score(Settings):
    """Write the negative bound of each example in nats (large is unlikely) to a CSV file.

    Rows of a table are numbered as in the file, the first row below the header is 1, as in `anomaly-report`; other
    examples are numbered from 0, as in `interpolate`. The score of a model without an ELBO, such as a deterministic
    autoencoder, is its distortion, the squared error.
    """

    run: RunDirectory
    """The run directory."""
    out: Path
    """The CSV file to write."""
    data: Path | None = None
    """A file or folder of examples; None is the test set."""
    num_samples: int = 1
    """Number of importance samples: 1 is the negative ELBO, more a tighter bound."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        out = output_file(self.out)
        loaded = load_run(self.run, self.device)
        source = loaded.source(self.data or "test")
        values = loaded.score(source, num_samples=self.num_samples)
        from fastvae.generative import AnyModel  # imported here: it imports PyTorch

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
class Encode(Settings):
    """Write the posteriors of a data set's examples: an npz file with mu and logvar [N, D], and label [N]."""

    run: RunDirectory
    """The run directory."""
    out: Path
    """The npz file to write."""
    split: Literal["train", "test"] = "test"
    """Split of the run's data."""
    data: Path | None = None
    """A file or folder of examples, instead of the run's data."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        out = output_file(self.out)
        print(load_run(self.run, self.device).save_latents(out, self.data or self.split))
        return 0


def evaluation_table(values: dict[str, Any]) -> str:
    """Return the numbers of an evaluation, one per line, with their units in their names."""
    shown = {name: value for name, value in values.items() if isinstance(value, int | float)}
    width = max(map(len, shown))
    return "\n".join(f"{n:{width}}  {v:.4f}" if isinstance(v, float) else f"{n:{width}}  {v}" for n, v in shown.items())
