"""Commands that compute numbers: `evaluate`, `score`, `encode`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastvae import applications
from fastvae.commands.options import NUMBERS, Device, OnRun, RowNames, RunDirectory, load_run, output_file, row_names

if TYPE_CHECKING:
    from torch import Tensor

    from fastvae.run import LoadedRun


@dataclass(frozen=True)
class Evaluate(OnRun):
    """Compute the bounds of a finished run on its test set, in nats per example."""

    run: RunDirectory
    """The run directory."""
    num_samples: int | None = None
    """Number of importance samples of nll_nats; 1 is the negative ELBO, None the run's --train.final-samples."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""
    json: bool = False
    """Print one JSON object instead of a table, with the values per latent dimension."""

    def __call__(self) -> int:
        loaded = load_run(self.run, self.device, self.module)
        num_samples = loaded.config.train.final_samples if self.num_samples is None else self.num_samples
        values = loaded.evaluate(num_samples).known()
        if self.json:
            print(json.dumps(values))
        else:
            option = "--train.final-samples of the run" if self.num_samples is None else "--num-samples"
            print(evaluation_table(values, notes={"num_samples": option}))
        return 0


@dataclass(frozen=True)
class Score(OnRun):
    """Write the negative bound of each example in nats (large is unlikely) to a CSV file.

    Rows of a table have their number in the file, 1 below the header, and their ID, as in `anomaly-report`; other
    examples count from 0, as in `interpolate`. The score of a model that estimates no ELBO, such as a deterministic
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
    contamination: float | None = None
    """Of a table: expected fraction of anomalies, in (0, 0.5]; see `anomaly-report`. None marks none."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        if self.contamination is not None:
            applications.anomalies.check_contamination(self.contamination)
        out = output_file(self.out, (".csv",))
        loaded = load_run(self.run, self.device, self.module)
        if self.contamination is not None:
            applications.anomalies.require_table(loaded)
        source = loaded.source(self.data or "test")
        values = loaded.score(source, num_samples=self.num_samples)
        from fastvae.generative import AnyModel  # imported here: it imports PyTorch

        model = AnyModel(loaded.model)
        score = "negative_elbo_nats" if self.num_samples == 1 else "nll_nats"
        is_table = loaded.data.kind == "table"
        examples = RowNames(("example",), tuple((number,) for number in range(len(values))))
        names = row_names(loaded, source) if is_table else examples
        marks = None if self.contamination is None else self._mark(loaded, values, self.contamination)
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            name = score if model.estimates_elbo else model.distortion_name
            writer.writerow([*names.header, name, *([] if marks is None else ["is_anomaly"])])
            ends = [[]] * len(values) if marks is None else [[int(mark)] for mark in marks.tolist()]
            for start, value, end in zip(names.rows, values.tolist(), ends, strict=True):
                writer.writerow([*start, f"{value:.6f}", *end])
        print(f"{out}  {len(values)} examples, mean {values.mean():.4f} {model.distortion_unit}")
        return 0

    def _mark(self, loaded: LoadedRun, values: Tensor, contamination: float) -> Tensor:
        """Whether each row is an anomaly, bool [N]; prints the threshold."""
        train = loaded.score("train", num_samples=self.num_samples)
        threshold = applications.anomalies.threshold_of(train, contamination)
        is_anomaly = values > threshold
        print(applications.anomalies.threshold_line(threshold, contamination, len(train), is_anomaly))
        return is_anomaly


@dataclass(frozen=True)
class Encode(OnRun):
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
        out = output_file(self.out, (NUMBERS,))
        print(load_run(self.run, self.device, self.module).save_latents(out, self.data or self.split))
        return 0


def evaluation_table(values: dict[str, Any], notes: Mapping[str, str] | None = None) -> str:
    """Return the numbers of an evaluation, one per line, with their units in their names.

    Args:
        values: the numbers by name.
        notes: words in parentheses after a number, by its name.
    """
    shown = {name: value for name, value in values.items() if isinstance(value, int | float)}
    width = max(map(len, shown))
    lines = {n: f"{n:{width}}  {v:.4f}" if isinstance(v, float) else f"{n:{width}}  {v}" for n, v in shown.items()}
    return "\n".join(f"{line}  ({notes[n]})" if notes and n in notes else line for n, line in lines.items())
