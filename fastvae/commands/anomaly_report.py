"""`anomaly-report`: the unlikely rows of a table, why they are so, and how well that finds the known ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae import applications
from fastvae.applications.config import ANOMALY_SAMPLES
from fastvae.commands.options import Device, OnRun, RunDirectory, load_run, output_file, row_numbers

if TYPE_CHECKING:
    from fastvae.applications.anomalies import Array, Detection, Scores
    from fastvae.run import LoadedRun


@dataclass(frozen=True)
class AnomalyReport(OnRun):
    """The least likely rows of a table and the columns that make them so; AUROC where the anomalies are known."""

    run: RunDirectory
    """The run directory."""
    data: Path | None = None
    """A CSV, TSV, Parquet, Arrow, Excel or npz file of rows; None is the run's test rows, compared with IsolationForest
    and PCA."""
    out: Path | None = None
    """The CSV file of all rows' scores and the columns' shares; None is anomalies.csv in the run directory."""
    top: int = 10
    """How many rows are shown."""
    num_samples: int = ANOMALY_SAMPLES
    """Draws of the latent that a score is a mean over."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU where there is one."""

    def __call__(self) -> int:
        if self.top < 1 or self.num_samples < 2:
            raise ValueError(
                f"anomaly-report: --top must be at least 1 and --num-samples 2, got {self.top}, {self.num_samples}"
            )
        out = None if self.out is None else output_file(self.out)
        loaded = load_run(self.run, self.device, self.module)
        applications.anomalies.require_table(loaded)
        source = loaded.source(self.data or "test")
        scores = applications.anomalies.score_run(loaded, source, num_samples=self.num_samples)
        rows = row_numbers(source)
        print(row_table(scores, rows, self.top))
        out = out or loaded.directory / "anomalies.csv"
        write_scores(out, scores, rows)
        if source.labels is not None:
            print("\n" + self._detection(loaded, scores, source.labels.double().numpy()))
        print(f"\n{out}  {len(scores.total)} rows")
        return 0

    def _detection(self, loaded: LoadedRun, scores: Scores, labels: Array) -> str:
        """How well the known anomalies are found, or why that cannot be said."""
        if not applications.anomalies.has_both_kinds(labels):
            return (
                f"no AUROC: of {len(labels)} rows {int(labels.sum())} are marked as anomalies; it needs some and others"
            )
        if self.data is not None:
            found = applications.anomalies.detection(labels, scores.total.numpy())
            return detection_table({loaded.config.recipe: found})
        return detection_table(applications.anomalies.compare(loaded, scores))


def row_table(scores: Scores, rows: Sequence[int], top: int) -> str:
    """The least likely rows, one a line, with what adds most to each score."""
    lines = [f"{'row':>7}  {'nats':>9}  because of"]
    for row in scores.total.argsort(descending=True, stable=True)[:top].tolist():
        reasons = ", ".join(f"{name} {nats:.1f}" for name, nats in scores.reasons(row))
        lines.append(f"{rows[row]:7}  {float(scores.total[row]):9.2f}  {reasons}")
    return "\n".join(lines)


def detection_table(found: dict[str, Detection]) -> str:
    """AUROC and average precision, a detector a line."""
    width = max(map(len, found))
    lines = [f"{'':{width}}  AUROC   average precision"]
    return "\n".join([*lines, *(f"{n:{width}}  {d.auroc:.4f}  {d.average_precision:.4f}" for n, d in found.items())])


def write_scores(path: Path, scores: Scores, rows: Sequence[int]) -> None:
    """Every row's number, score and its parts in nats, as CSV; the parts add up to the score."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "score_nats", "latent_nats", *(f"{name}_nats" for name in scores.names)])
        for row, total, latent, shares in zip(
            rows, scores.total.tolist(), scores.latent.tolist(), scores.columns.tolist(), strict=True
        ):
            writer.writerow([row, *(f"{nats:.6f}" for nats in (total, latent, *shares))])
