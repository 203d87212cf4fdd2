"""Anomaly detection on the command line: train on a table with gaps and categories, report, score other rows."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvae import cli, load
from fastvae.applications.anomalies import detection, score_run


def write_table(path: Path, num: int = 600, seed: int = 0) -> Path:
    """Write two correlated numbers and a category that is their sign; in 30 anomalous rows one of them is wrong."""
    rng = np.random.default_rng(seed)
    lines = ["pressure,flow,valve,noise,anomaly"]
    for row in range(num):
        is_anomaly = row < 30
        first = rng.normal() if not is_anomaly else rng.choice([-1.5, 1.5])
        flow, valve = 2 * first + 0.1 * rng.normal(), "open" if first > 0 else "shut"
        if is_anomaly and row % 2:
            flow = -flow
        elif is_anomaly:
            valve = "stuck"
        flow_text = "" if rng.random() < 0.05 else f"{flow:.4f}"
        lines.append(f"{first:.4f},{flow_text},{valve},{rng.random():.4f},{int(is_anomaly)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anomalies")
    path = write_table(folder / "table.csv")
    words = [
        "train", "anomaly-table", f"--run-dir={folder / 'run'}", "--data.name=file", f"--data.path={path}",
        "--train.steps=700", "--model.latent-dim=3", "--model.hidden-dim", "32", "--train.lr=5e-3",
    ]  # fmt: skip
    assert cli.main(words) == 0
    return folder / "run"


def test_the_report_finds_the_anomalies_and_names_the_columns(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["anomaly-report", str(run_dir), "--top", "5"]) == 0
    text = capsys.readouterr().out
    assert all("valve" in line or "flow" in line for line in text.splitlines()[1:6])
    aurocs = {
        line.split()[0]: float(re.findall(r"[01]\.\d{4}", line)[0])
        for line in text.splitlines()
        if re.match("anomaly-table|IsolationForest|PCA", line)
    }
    assert aurocs.keys() == {"anomaly-table", "IsolationForest", "PCA"}
    assert aurocs["anomaly-table"] > 0.9
    rows = list(csv.DictReader((run_dir / "anomalies.csv").read_text().splitlines()))
    for row in rows:
        parts = [float(value) for name, value in row.items() if name not in ("row", "score_nats")]
        assert sum(parts) == pytest.approx(float(row["score_nats"]), abs=1e-4)


def test_scores_are_deterministic_and_agree_with_the_run(run_dir: Path) -> None:
    run = load(run_dir)
    scores = score_run(run)
    assert torch.equal(scores.total, score_run(load(run_dir)).total)
    torch.testing.assert_close(scores.total, scores.latent + scores.columns.sum(1))
    # run.score uses one sample of the same posterior, so the expectations agree.
    assert float(scores.total.mean()) == pytest.approx(float(run.score().mean()), abs=1.0)
    other = score_run(run, num_samples=200)
    assert float((scores.total - other.total).abs().median()) < 1.0


def test_missing_values_do_not_contribute_to_the_score(run_dir: Path) -> None:
    run = load(run_dir)
    flow = run.data.test[torch.arange(len(run.data.test))][:, 1]
    columns = score_run(run).columns[:, 1]
    assert bool(flow.isnan().any())
    assert bool((columns[flow.isnan()] == 0).all())
    assert bool((columns[~flow.isnan()] != 0).all())


def test_rows_of_another_file_are_scored(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("pressure,flow,valve,noise\n0.5,1.0,open,0\n0.5,-1.0,open,0\n0.5,1.0,broken,0\n0.5,,open,\n")
    out = tmp_path / "out" / "scores.csv"
    assert cli.main(["anomaly-report", str(run_dir), "--data", str(rows), "--out", str(out)]) == 0
    assert "AUROC" not in capsys.readouterr().out
    scores = [float(row["score_nats"]) for row in csv.DictReader(out.read_text().splitlines())]
    assert min(scores[1], scores[2]) > max(scores[0], scores[3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--top", "0"], "--top"), (["--data", "nowhere.csv"], "nowhere.csv")],
)
def test_invalid_options_are_one_line_errors(
    run_dir: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["anomaly-report", str(run_dir), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_detection_requires_both_labels() -> None:
    found = detection(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    assert (found.auroc, found.average_precision) == (0.75, pytest.approx(0.8333, abs=1e-4))
    with pytest.raises(ValueError, match=r"labels .*0 and 1, got only \[0\.0\]"):
        detection(np.zeros(3), np.zeros(3))
