"""`anomaly-report`: the most unusual rows of a table, the columns that explain them, and detection metrics."""

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
    from fastvae.run import LoadedRun


@dataclass(frozen=True)
class AnomalyReport(OnRanks):
    """Report the most unusual rows of a table and the columns that explain them; AUROC if anomalies are labelled.

    Under torchrun, the processes share the rows.
    """

    run: RunDirectory
    """The run directory."""
    data: Path | None = None
    """A CSV, TSV, Parquet, Arrow, Excel or npz file of rows; None is the run's test rows, compared with those of
    IsolationForest and, if PyOD is installed, of its PCA, HBOS and ECOD."""
    out: Path | None = None
    """CSV file to write the scores of all rows to, with the parts of each column; None is anomalies.csv in RUN."""
    top: int = 10
    """Number of rows to print."""
    num_samples: int = ANOMALY_SAMPLES
    """Number of latent samples that a row's ELBO is averaged over."""
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
            reference = applications.anomalies.reference_on_ranks(loaded, rounds)
            parts = list(
                applications.anomalies.score_chunks(loaded, source, rounds, reference, num_samples=self.num_samples)
            )
        if reference is not None:
            threshold = None if self.contamination is None else reference.threshold(self.contamination)
            scores = applications.anomalies.Scores.join(parts)
            self._report(loaded, source, scores, threshold, out or loaded.directory / "anomalies.csv")
        return 0

    def _report(
        self, loaded: LoadedRun, source: Source, scores: Scores, threshold: Threshold | None, out: Path
    ) -> None:
        """Print the report and write the scores of all rows."""
        rows = row_names(loaded, source)
        print(row_table(scores, rows, self.top))
        is_anomaly = None if threshold is None else scores.total > threshold.score
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
    """The most unusual rows, one per line, with the largest parts of each score."""
    lines = [f"{'row':>7}  {'score':>9}  because of"]
    if len(rows.header) > 1:
        lines = [f"{'row':>7}  {rows.header[1]:>12}  {'score':>9}  because of"]
    for row in scores.total.argsort(descending=True, stable=True)[:top].tolist():
        reasons = ", ".join(f"{name} {part:.1f}" for name, part in scores.reasons(row))
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
    """Write the number, ID and score of every row, its parts and the negative ELBO in nats, as CSV.

    Args:
        path: the file.
        scores: scores of N rows; the parts add up to the score.
        rows: numbers and IDs of the N rows.
        is_anomaly: bool [N], a column of 0 and 1; None writes no column.
    """
    marks = [()] * len(rows.rows) if is_anomaly is None else [(int(mark),) for mark in is_anomaly.tolist()]
    marked = () if is_anomaly is None else ("is_anomaly",)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        parts = ("latent_score", *(f"{name}_score" for name in scores.names))
        writer.writerow([*rows.header, "anomaly_score", *marked, "negative_elbo_nats", *parts])
        for names, mark, *numbers, columns in zip(
            rows.rows,
            marks,
            scores.total.tolist(),
            scores.negative_elbo.tolist(),
            scores.latent.tolist(),
            scores.columns.tolist(),
            strict=True,
        ):
            total, *others = (f"{number:.6f}" for number in (*numbers, *columns))
            writer.writerow([*names, total, *mark, *others])
