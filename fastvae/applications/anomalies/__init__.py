"""Anomaly scores of a table's rows, the columns that explain them, and a comparison with other detectors."""

from fastvae.applications.anomalies.detect import (
    keep_reference,
    make_reference,
    reference_on_ranks,
    score_chunks,
    score_rows,
    score_run,
)
from fastvae.applications.anomalies.reference import Reference
from fastvae.applications.anomalies.rivals import (
    Array,
    Detection,
    baselines,
    compare,
    compare_on,
    detection,
    has_both_kinds,
)
from fastvae.applications.anomalies.scores import Scores, Threshold, check_contamination
from fastvae.applications.anomalies.terms import column_names, require_table, scores_tables

__all__ = [
    "Array",
    "Detection",
    "Reference",
    "Scores",
    "Threshold",
    "baselines",
    "check_contamination",
    "column_names",
    "compare",
    "compare_on",
    "detection",
    "has_both_kinds",
    "keep_reference",
    "make_reference",
    "reference_on_ranks",
    "require_table",
    "score_chunks",
    "score_rows",
    "score_run",
    "scores_tables",
]
