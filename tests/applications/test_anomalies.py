"""Anomaly detection on the command line: train on a table with gaps and categories, report, score other rows."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastvae import cli, load
from fastvae.applications.anomalies import baselines, detection, score_run
from fastvae.data.views import take


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
        if re.match("anomaly-table|IsolationForest", line)
    }
    assert list(aurocs) == ["anomaly-table", "IsolationForest"]
    assert aurocs["anomaly-table"] > 0.9
    rows = list(csv.DictReader((run_dir / "anomalies.csv").read_text().splitlines()))
    names = ["row", "anomaly_score", "negative_elbo_nats", "latent_score"]
    assert list(rows[0]) == [*names, "pressure_score", "flow_score", "valve_score", "noise_score"]
    for row in rows:
        parts = [float(row[name]) for name in list(row)[3:]]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(float(row["anomaly_score"]), abs=1e-4)


def test_scores_are_deterministic_and_agree_with_the_run(run_dir: Path) -> None:
    run = load(run_dir)
    scores = score_run(run)
    assert torch.equal(scores.total, score_run(load(run_dir)).total)
    torch.testing.assert_close(scores.total, scores.latent + scores.columns.sum(1))
    # run.score uses one sample of the same posterior, so the expectations agree.
    assert float(scores.negative_elbo.mean()) == pytest.approx(float(run.score().mean()), abs=1.0)
    other = score_run(run, num_samples=200)
    assert float((scores.negative_elbo - other.negative_elbo).abs().median()) < 1.0


def test_a_row_is_scored_alone(run_dir: Path) -> None:
    run = load(run_dir)
    few = take(run.data.test, torch.arange(3))  # the noise of a row depends on its index
    torch.testing.assert_close(score_run(run, few).total, score_run(run).total[:3])


def test_training_keeps_the_reference_with_which_rows_are_compared(run_dir: Path, tmp_path: Path) -> None:
    kept, made = tmp_path / "kept", tmp_path / "made"
    for folder in (kept, made):
        shutil.copytree(run_dir, folder)
    (made / "anomalies.safetensors").unlink()
    expected = score_run(load(kept)).total
    torch.testing.assert_close(score_run(load(made)).total, expected)
    (kept / "anomalies.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"anomalies\.safetensors .*delete it"):
        score_run(load(kept))
    other = load_file(made / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in other.items()}, made / "model.safetensors")
    shutil.copy(run_dir / "anomalies.safetensors", made)
    fresh = score_run(load(made), "train").total  # a reference of other weights is not used
    assert float(torch.exp(-fresh / 3).mean()) == pytest.approx(0.5, abs=0.1)


def test_other_rows_are_scored_and_marked_without_the_training_file(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, rows = run_dir.parent / "table.csv", write_table(tmp_path / "rows.csv", 40, seed=1)
    words = ["anomaly-report", str(run_dir), f"--data={rows}", "--contamination=0.1"]
    assert cli.main([*words, f"--out={tmp_path / 'with.csv'}"]) == 0
    hidden = table.rename(tmp_path / "hidden.csv")
    assert cli.main([*words, f"--out={tmp_path / 'without.csv'}"]) == 0
    hidden.rename(table)
    assert capsys.readouterr().out.count("exceeded by 10.00% of 420 training rows") == 2
    assert (tmp_path / "with.csv").read_bytes() == (tmp_path / "without.csv").read_bytes()


def test_rows_far_outside_of_the_training_rows_are_ranked(run_dir: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("pressure,flow,valve,noise\n0,0,open,0.5\n8,0,open,0.5\n12,0,open,0.5\n16,0,open,0.5\n")
    totals = score_run(load(run_dir), rows).total
    assert totals.tolist() == sorted(totals.tolist())
    assert len(set(totals.tolist())) == 4


def test_missing_values_do_not_contribute_to_the_score(run_dir: Path) -> None:
    run = load(run_dir)
    flow = run.data.test[torch.arange(len(run.data.test))][:, 1]
    columns = score_run(run).columns[:, 1]
    assert bool(flow.isnan().any())
    assert bool((columns[flow.isnan()] == 0).all())
    assert bool((columns[~flow.isnan()] > 0).any())


def test_constant_and_empty_columns_and_few_rows(tmp_path: Path) -> None:
    rows = tmp_path / "table.csv"
    lines = [f"{place % 5},7,,{'xy'[place % 2]}" for place in range(12)]
    rows.write_text("\n".join(["number,constant,empty,letter", *lines]) + "\n")
    words = ["train", "anomaly-table", f"--run-dir={tmp_path / 'run'}", f"--data.path={rows}", "--train.steps=2"]
    assert cli.main([*words, "--train.no-pictures", "--train.final-samples=1"]) == 0
    scores = score_run(load(tmp_path / "run"), rows)
    assert bool(scores.total.isfinite().all())


def test_a_model_without_terms_per_column_has_no_anomaly_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "table.csv"
    rows.write_text("\n".join(["a,b", *(f"{place},{place % 7}" for place in range(40))]) + "\n")
    words = ["train", "anomaly-table", f"--run-dir={tmp_path / 'run'}", f"--data.path={rows}", "--train.steps=2"]
    assert cli.main([*words, "--model.likelihood=gaussian", "--train.no-pictures", "--train.final-samples=1"]) == 0
    assert cli.main(["score", str(tmp_path / "run"), f"--out={tmp_path / 'scores.csv'}"]) == 0
    assert (tmp_path / "scores.csv").read_text().startswith("row,negative_elbo_nats\n")
    assert cli.main(["anomaly-report", str(tmp_path / "run")]) == 2
    assert "require the likelihood table, got Gaussian" in capsys.readouterr().err


def test_score_writes_anomaly_scores_of_a_table_and_marks_rows(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.csv"
    assert cli.main(["score", str(run_dir), f"--out={out}", "--contamination=0.1"]) == 0
    assert "exceeded by 10.00% of" in capsys.readouterr().out
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(rows[0]) == ["row", "negative_elbo_nats", "anomaly_score", "is_anomaly"]
    totals = score_run(load(run_dir)).total
    assert [float(row["anomaly_score"]) for row in rows] == pytest.approx(totals.tolist(), abs=1e-5)
    marked = [float(row["anomaly_score"]) for row in rows if row["is_anomaly"] == "1"]
    assert 0 < len(marked) < len(rows) / 3
    assert min(marked) > max(float(row["anomaly_score"]) for row in rows if row["is_anomaly"] == "0")


def test_rows_of_another_file_are_scored(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("pressure,flow,valve,noise\n0.5,1.0,open,0\n0.5,-1.0,open,0\n0.5,1.0,broken,0\n0.5,,open,\n")
    out = tmp_path / "out" / "scores.csv"
    assert cli.main(["anomaly-report", str(run_dir), "--data", str(rows), "--out", str(out)]) == 0
    assert "AUROC" not in capsys.readouterr().out
    scores = [float(row["anomaly_score"]) for row in csv.DictReader(out.read_text().splitlines())]
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


def test_pyods_detectors_are_compared_if_it_is_installed() -> None:
    pytest.importorskip("pyod")
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(200, 3)), np.concatenate([rng.normal(size=(20, 3)), rng.normal(size=(5, 3)) * 8])
    found = {
        name: detection(np.repeat([0.0, 1], [20, 5]), detector(train, test)) for name, detector in baselines(0).items()
    }
    assert list(found) == ["IsolationForest", "PyOD's PCA", "PyOD's HBOS", "PyOD's ECOD"]
    assert all(each.auroc > 0.9 for each in found.values())
