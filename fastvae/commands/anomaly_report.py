"""`anomaly-report`: the least likely rows of a table, the columns that explain them, and detection metrics."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae import applications
from fastvae.applications.config import ANOMALY_SAMPLES
from fastvae.commands.options import RowNames, RunDirectory, output_file, row_names
from fastvae.commands.ranks import OnRanks

if TYPE_CHECKING:
    from torch import Tensor

    from fastvae.applications.anomalies import Array, Detection, Scores, Threshold
    from fastvae.data import Source
    from fastvae.distributed import Rounds
    from fastvae.run import LoadedRun


@dataclass(frozen=True)
class AnomalyReport(OnRanks):
    """Report the least likely rows of a table and the columns that explain them; AUROC if anomalies are labelled.

    Under torchrun, the processes share the rows.
    """

    run: RunDirectory
    """The run directory."""
    data: Path | None = None
    """A CSV, TSV, Parquet, Arrow, Excel or npz file of rows; None is the run's test rows, compared with those of
    IsolationForest and PCA."""
    out: Path | None = None
    """CSV file to write the scores of all rows to, with the terms of each column; None is anomalies.csv in RUN."""
    top: int = 10
    """Number of rows to print."""
    num_samples: int = ANOMALY_SAMPLES
    """Number of latent samples that a row's score is averaged over."""
    contamination: float | None = None
    """Expected fraction of anomalies, in (0, 0.5]: rows whose score only that fraction of the training rows exceeds are
    marked as anomalies in a column is_anomaly; None marks none."""

    def __call__(self) -> int:
        if self.top < 1 or self.num_samples < 2:
            raise ValueError(
                f"anomaly-report: --top must be at least 1 and --num-samples 2, got {self.top}, {self.num_samples}"
            )
        if self.contamination is not None:
            applications.anomalies.check_contamination(self.contamination)
        out = None if self.out is None else output_file(self.out, (".csv",))
        with self.on_ranks(self.run) as (loaded, rounds):
            applications.anomalies.require_table(loaded)
            source = loaded.source(self.data or "test")
            scores = applications.anomalies.score_on_ranks(loaded, source, rounds, num_samples=self.num_samples)
            threshold = None if self.contamination is None else self._threshold(loaded, rounds, self.contamination)
        if scores is not None:
            self._report(loaded, source, scores, threshold, out or loaded.directory / "anomalies.csv")
        return 0

    def _threshold(self, loaded: LoadedRun, rounds: Rounds, contamination: float) -> Threshold | None:
        """The score above which a row is an anomaly; None on ranks other than 0."""
        train = applications.anomalies.score_on_ranks(loaded, "train", rounds, num_samples=self.num_samples)
        return None if train is None else applications.anomalies.Threshold.of(train.total, contamination)

    def _report(
        self, loaded: LoadedRun, source: Source, scores: Scores, threshold: Threshold | None, out: Path
    ) -> None:
        """Print the report and write the scores of all rows."""
        rows = row_names(loaded, source)
        print(row_table(scores, rows, self.top))
        is_anomaly = None if threshold is None else scores.total > threshold.nats
        if threshold is not None and is_anomaly is not None:
            print("\n" + threshold.line(int(is_anomaly.sum()), len(is_anomaly)))
        write_scores(out, scores, rows, is_anomaly)
        if source.labels is not None:
            print("\n" + self._detection(loaded, scores, source.labels.double().numpy()))
        print(f"\n{out}  {len(scores.total)} rows")

    def _detection(self, loaded: LoadedRun, scores: Scores, labels: Array) -> str:
        """Return the detection metrics of labelled anomalies, or why they are not defined."""
        if not applications.anomalies.has_both_kinds(labels):
            return (
                f"no AUROC: of {len(labels)} rows {int(labels.sum())} are labelled as anomalies; AUROC requires both "
                "classes"
            )
        if self.data is not None:
            found = applications.anomalies.detection(labels, scores.total.numpy())
            return detection_table({loaded.config.recipe: found})
        return detection_table(applications.anomalies.compare(loaded, scores))


def row_table(scores: Scores, rows: RowNames, top: int) -> str:
    """The least likely rows, one per line, with the largest terms of each score."""
    lines = [f"{'row':>7}  {'nats':>9}  because of"]
    if len(rows.header) > 1:
        lines = [f"{'row':>7}  {rows.header[1]:>12}  {'nats':>9}  because of"]
    for row in scores.total.argsort(descending=True, stable=True)[:top].tolist():
        reasons = ", ".join(f"{name} {nats:.1f}" for name, nats in scores.reasons(row))
        number, *ids = rows.rows[row]
        name = "".join([f"{number:7}", *(f"  {identity:>12}" for identity in ids)])
        lines.append(f"{name}  {float(scores.total[row]):9.2f}  {reasons}")
    return "\n".join(lines)


def detection_table(found: dict[str, Detection]) -> str:
    """Return AUROC and average precision, one detector per line."""
    width = max(map(len, found))
    lines = [f"{'':{width}}  AUROC   average precision"]
    return "\n".join([*lines, *(f"{n:{width}}  {d.auroc:.4f}  {d.average_precision:.4f}" for n, d in found.items())])


def write_scores(path: Path, scores: Scores, rows: RowNames, is_anomaly: Tensor | None = None) -> None:
    """Write the number, ID and score of every row and the terms of the score in nats, as CSV.

    Args:
        path: the file.
        scores: scores of N rows; the terms add up to the score.
        rows: numbers and IDs of the N rows.
        is_anomaly: bool [N], a column of 0 and 1; None writes no column.
    """
    marks = [()] * len(rows.rows) if is_anomaly is None else [(int(mark),) for mark in is_anomaly.tolist()]
    marked = () if is_anomaly is None else ("is_anomaly",)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [*rows.header, "score_nats", *marked, "latent_nats", *(f"{name}_nats" for name in scores.names)]
        )
        for names, mark, total, latent, shares in zip(
            rows.rows, marks, scores.total.tolist(), scores.latent.tolist(), scores.columns.tolist(), strict=True
        ):
            writer.writerow([*names, f"{total:.6f}", *mark, *(f"{nats:.6f}" for nats in (latent, *shares))])
