"""Commands that compute numbers: `evaluate`, `score`, `encode`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastvae import applications
from fastvae.commands.options import NUMBERS, RunDirectory, output_file, row_names
from fastvae.commands.ranks import OnRanks

if TYPE_CHECKING:
    from torch import Tensor

    from fastvae.applications.anomalies import Threshold
    from fastvae.data import Source
    from fastvae.distributed import Rounds
    from fastvae.run import LoadedRun


@dataclass(frozen=True)
class Evaluate(OnRanks):
    """Compute the bounds of a finished run on its test set, in nats per example.

    Under torchrun, the processes share the examples.
    """

    run: RunDirectory
    """The run directory."""
    num_samples: int | None = None
    """Number of importance samples of nll_nats; 1 is the negative ELBO, None the run's --train.final-samples."""
    json: bool = False
    """Print one JSON object instead of a table, with the values per latent dimension."""

    def __call__(self) -> int:
        from fastvae.run.chunks import evaluate_run  # imported here: it imports PyTorch

        with self.on_ranks(self.run) as (loaded, rounds):
            num_samples = loaded.config.train.final_samples if self.num_samples is None else self.num_samples
            evaluation = evaluate_run(loaded, num_samples, rounds)
        if evaluation is not None:
            values = evaluation.known()
            option = "--train.final-samples of the run" if self.num_samples is None else "--num-samples"
            print(json.dumps(values) if self.json else evaluation_table(values, notes={"num_samples": option}))
        return 0


@dataclass(frozen=True)
class Score(OnRanks):
    """Write the negative bound of each example in nats (large is unlikely) to a CSV file.

    Rows of a table have their number in the file, 1 below the header, their ID and their anomaly score, as in
    `anomaly-report`; other examples count from 0, as in `interpolate`. The score of a model that estimates no ELBO,
    such as a deterministic autoencoder, is its distortion, the squared error. Under torchrun, the processes share the
    examples.
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

    def __call__(self) -> int:
        from fastvae.run.chunks import drain, score_chunks  # imported here: it imports PyTorch

        if self.contamination is not None:
            applications.anomalies.check_contamination(self.contamination)
        out = output_file(self.out, (".csv",))
        with self.on_ranks(self.run) as (loaded, rounds):
            source = loaded.source(self.data or "test")
            if self.contamination is not None:
                applications.anomalies.require_table(loaded)
            anomalies = _anomaly_scores(loaded, source, rounds, self.contamination)
            scores = score_chunks(loaded, source, num_samples=self.num_samples, rounds=rounds)
            if rounds.is_main:
                self._write(out, loaded, source, scores, anomalies)
            else:
                drain(scores)
        return 0

    def _write(
        self, out: Path, loaded: LoadedRun, source: Source, scores: Iterable[Tensor], anomalies: _AnomalyScores | None
    ) -> None:
        """Write the scores as they arrive, and print their number and mean."""
        from fastvae.generative import AnyModel  # imported here: they import PyTorch
        from fastvae.run.npz import replacing_file

        model = AnyModel(loaded.model)
        bound = "negative_elbo_nats" if self.num_samples == 1 else "nll_nats"
        names = row_names(loaded, source) if loaded.data.kind == "table" else None
        num, total = 0, 0.0
        with replacing_file(out) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            header = ("example",) if names is None else names.header
            name = bound if model.estimates_elbo else model.distortion_name
            writer.writerow([*header, name, *(() if anomalies is None else anomalies.header)])
            for chunk in scores:
                for value in chunk.tolist():
                    others = [] if anomalies is None else anomalies.cells(num)
                    writer.writerow([*((num,) if names is None else names.rows[num]), f"{value:.6f}", *others])
                    num += 1
                total += float(chunk.sum())
        if anomalies is not None and anomalies.threshold is not None:
            print(anomalies.threshold.line(anomalies.num_above, num))
        print(f"{out}  {num} examples, mean {total / num:.4f} {model.distortion_unit}")


@dataclass(frozen=True)
class _AnomalyScores:
    """The anomaly scores of a table's rows."""

    totals: Tensor  # [N]
    threshold: Threshold | None

    @property
    def header(self) -> tuple[str, ...]:
        return ("anomaly_score",) if self.threshold is None else ("anomaly_score", "is_anomaly")

    @property
    def num_above(self) -> int:
        assert self.threshold is not None
        return int((self.totals > self.threshold.score).sum())

    def cells(self, row: int) -> list[str]:
        total = float(self.totals[row])
        marks = [] if self.threshold is None else [str(int(total > self.threshold.score))]
        return [f"{total:.6f}", *marks]


def _anomaly_scores(
    loaded: LoadedRun, source: Source, rounds: Rounds, contamination: float | None
) -> _AnomalyScores | None:
    """The anomaly scores of rows; None on ranks other than 0, and for a run that has none."""
    import torch  # imported here: it takes a second

    if not applications.anomalies.scores_tables(loaded):
        return None
    reference = applications.anomalies.reference_on_ranks(loaded, rounds)
    totals = [part.total for part in applications.anomalies.score_chunks(loaded, source, rounds, reference)]
    if reference is None:
        return None
    threshold = None if contamination is None else reference.threshold(contamination)
    return _AnomalyScores(torch.cat(totals), threshold)


@dataclass(frozen=True)
class Encode(OnRanks):
    """Write the posteriors of a data set's examples: an npz file with mu and logvar [N, D], and label [N].

    Under torchrun, the processes share the examples.
    """

    run: RunDirectory
    """The run directory."""
    out: Path
    """The npz file to write."""
    split: Literal["train", "test"] = "test"
    """Split of the run's data."""
    data: Path | None = None
    """A file or folder of examples, instead of the run's data."""

    def __call__(self) -> int:
        out = output_file(self.out, (NUMBERS,))
        with self.on_ranks(self.run) as (loaded, rounds):
            loaded.save_latents(out, self.data or self.split, rounds=rounds)
            if rounds.is_main:
                print(out)
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
