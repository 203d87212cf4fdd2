"""Short forms of the commands that measure anomalies and recommendation, run for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.test_app_images import DATA, needs_mnist, run_script

needs_adbench = pytest.mark.skipif(not (DATA / "adbench").is_dir(), reason=f"no adbench/ in {DATA}; set FASTVAE_DATA")


@needs_adbench
def test_tables_are_judged_beside_isolation_forest(tmp_path: Path) -> None:
    rows = run_script("app_anomalies.py", tmp_path, "--tables", "WBC", "breastw", "--seeds", "1", "--only", "tables")
    values = {row["figure"]: row["value"] for row in rows}
    assert values["WBC: AUROC"] > 0.95
    assert values["breastw: AUROC"] > 0.95
    assert rows[-1]["figure"] == "mean AUROC of the tables"
    assert rows[-1]["bar"].startswith(">= 0.9")


@needs_mnist
def test_a_digit_that_is_left_out_is_judged(tmp_path: Path) -> None:
    for digit in ("0", "6"):
        rows = run_script("app_anomalies.py", tmp_path, "--only=mnist", f"--digits={digit}", "--steps-mnist=100")
    assert [row["figure"] for row in rows] == [f"MNIST without {digit}: AUROC of {digit}" for digit in "06"]
    assert [row["bar"] for row in rows] == ["", ""]  # the bar is for the mean of all ten
    assert all(0.6 < row["value"] < 1 for row in rows)


def test_many_users_stream_through_in_little_memory(tmp_path: Path) -> None:
    options = ["--users=4000", "--items=3000", "--train-seconds=1"]
    rows = run_script("app_recommendation_scale.py", tmp_path, *options)
    values = {row["figure"].rpartition(": ")[2]: row["value"] for row in rows}
    assert values.keys() == {"loader, users/s", "encoder, users/s", "training, users/s", "peak memory, GiB"}
    assert rows[-1]["met"] is True
