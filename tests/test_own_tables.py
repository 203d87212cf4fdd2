"""Training on a user's table and scoring rows with reasons, on the command line."""

from __future__ import annotations

import csv
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastvae
from fastvae import cli

Capture = pytest.CaptureFixture[str]
NAMES = ("height", "code", "weight")
OPTIONS = (
    "--data.table.categorical code --train.steps 60 --train.global-batch-size 32 --train.final-samples 1"
    " --model.hidden-dim 16 --model.latent-dim 2 --train.device cpu"
).split()


def rows_of(num: int, seed: int = 0) -> list[list[str]]:
    """Rows with correlated height and weight, a code with leading zeros, missing values, and some anomalies."""
    noise = np.random.default_rng(seed)
    rows = []
    for number in range(num):
        is_anomaly = number % 20 == 7
        height = noise.normal(170, 10)
        weight = (900 if is_anomaly else height - 100) + noise.normal(0, 2)
        code = ("001" if height < 170 else "002", "A7")[number % 11 == 3]
        rows.append([f"{height:.2f}", "" if number % 13 == 5 else code, f"{weight:.2f}", str(int(is_anomaly))])
    return rows


def write(path: Path, rows: list[list[str]], label: str = "anomaly", columns: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    header = [*NAMES, label]
    lines = [",".join(row[column] for column in columns) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    path = write(folder / "people.csv", rows_of(300))
    assert cli.main(["train", "anomaly-table", f"--data.path={path}", f"--run-dir={folder / 'run'}", *OPTIONS]) == 0
    return folder / "run"


def report(run_dir: Path, out: Path, *words: str) -> list[dict[str, str]]:
    assert cli.main(["anomaly-report", str(run_dir), f"--out={out}", *words]) == 0
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scores(run_dir: Path, path: Path) -> list[float]:
    return fastvae.load(run_dir).score(path).tolist()


def refused(words: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_rows_are_numbered_as_in_the_file(run_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    found = report(run_dir, tmp_path / "new" / "scores.csv")
    assert len(found) == 90
    whole = write(tmp_path / "whole.csv", rows_of(300))
    everybody = report(run_dir, tmp_path / "all.csv", f"--data={whole}")
    assert [row["row"] for row in everybody] == [str(number) for number in range(1, 301)]
    nats = {row["row"]: float(row["negative_elbo_nats"]) for row in everybody}
    found_nats = [float(row["negative_elbo_nats"]) for row in found]
    # The noise of a row depends on its index in its file, so the numbers are similar, not equal.
    assert statistics.correlation(found_nats, [nats[row["row"]] for row in found]) > 0.95
    worst = max(found, key=lambda row: float(row["anomaly_score"]))
    assert int(worst["row"]) % 20 == 8  # an anomaly; rows are numbered from 1
    assert cli.main(["score", str(run_dir), f"--out={tmp_path / 'plain.csv'}"]) == 0
    with (tmp_path / "plain.csv").open(encoding="utf-8") as file:
        assert [row["row"] for row in csv.DictReader(file)] == [row["row"] for row in found]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == worst["row"]


def test_a_file_with_labels_is_evaluated(run_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "new.csv", rows_of(80, seed=1))
    report(run_dir, tmp_path / "s.csv", f"--data={path}")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("anomaly-table"))
    assert float(line.split()[1]) > 0.95


@pytest.mark.parametrize("label", ["0", "1"])
def test_rows_with_a_single_label_value_are_scored(run_dir: Path, tmp_path: Path, capsys: Capture, label: str) -> None:
    path = write(tmp_path / "new.csv", [[*row[:3], label] for row in rows_of(10)])
    assert len(report(run_dir, tmp_path / "s.csv", f"--data={path}")) == 10
    assert "no AUROC" in capsys.readouterr().out


def test_an_npz_and_a_csv_file_have_the_same_scores(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(50, [3, 20, 1], (200, 3)).round(2)
    x[4, 1] = np.nan
    np.savez(tmp_path / "x.npz", X=x)
    lines = ["x0,x1,x2", *(",".join("" if np.isnan(value) else f"{value:.2f}" for value in row) for row in x)]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    train = ["train", "anomaly-table", f"--data.path={tmp_path / 'x.npz'}", f"--run-dir={tmp_path / 'run'}"]
    assert cli.main([*train, *OPTIONS[2:]]) == 0
    found = [scores(tmp_path / "run", tmp_path / name) for name in ("x.npz", "x.csv")]
    assert found[0] == found[1]
    assert np.mean(found[0]) < 20  # the columns are scaled; unscaled ones would have thousands of nats


def test_a_score_does_not_depend_on_other_rows(run_dir: Path, tmp_path: Path) -> None:
    row = rows_of(1)[0]
    alone = write(tmp_path / "alone.csv", [row])
    together = write(tmp_path / "together.csv", [row, [row[0], "A7", row[2], "0"]])
    assert scores(run_dir, alone)[0] == scores(run_dir, together)[0]
    unpadded = write(tmp_path / "unpadded.csv", [[row[0], row[1].lstrip("0"), *row[2:]]])
    assert scores(run_dir, unpadded) == scores(run_dir, alone)  # a spreadsheet converts 001 to 1


def test_large_numeric_codes_are_distinct_categories(tmp_path: Path) -> None:
    rows = [[f"{number}", str(20240101 + number % 4), "1", "0"] for number in range(60)]
    path = write(tmp_path / "dates.csv", rows, columns=(0, 1, 2))
    train = ["train", "anomaly-table", f"--data.path={path}", f"--run-dir={tmp_path / 'run'}", "--train.steps=2"]
    assert cli.main([*train, "--data.table.categorical=code", "--train.global-batch-size=16"]) == 0
    assert fastvae.load(tmp_path / "run").data.event_shape == (1 + 5 + 1,)  # four dates and "(other)"


def test_missing_columns_are_missing_values(run_dir: Path, tmp_path: Path) -> None:
    rows = rows_of(5)
    few = write(tmp_path / "few.csv", rows, columns=(0, 2))  # neither label nor code
    gaps = write(tmp_path / "gaps.csv", [[row[0], "", row[2], ""] for row in rows])
    assert scores(run_dir, few) == pytest.approx(scores(run_dir, gaps))


def test_scoring_does_not_need_the_label_column(tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv", rows_of(100), label="bad")
    train = ["train", "anomaly-table", f"--data.path={path}", f"--run-dir={tmp_path / 'run'}", *OPTIONS]
    assert cli.main([*train, "--data.table.label=bad"]) == 0
    assert len(scores(tmp_path / "run", write(tmp_path / "new.csv", rows_of(5), columns=(0, 1, 2)))) == 5
    assert len(scores(tmp_path / "run", write(tmp_path / "empty.csv", [[*r[:3], ""] for r in rows_of(5)], "bad"))) == 5


def test_a_feature_column_can_be_named_y(tmp_path: Path) -> None:
    lines = ["x,y", *(f"{a:.2f},{b:.2f}" for a, b in np.random.default_rng(0).normal(size=(60, 2)))]
    (tmp_path / "places.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["train", "anomaly-table", f"--data.path={tmp_path / 'places.csv'}", "--train.steps=2"]
    assert cli.main([*words, f"--run-dir={tmp_path / 'run'}", "--train.global-batch-size=16"]) == 0
    data = fastvae.load(tmp_path / "run").data
    assert data.event_shape == (2,)
    assert data.train.labels is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,1e308\n2,-1e308\n3,5\n", "column b: "),
        (b"a,b\n1,inf\n2,3\n3,5\n", "column b: "),
        (b"a,b\ncaf\xe9,3\n", "byte 0xe9 in line 2"),
        (b'a,b\n1,"' + b"2" * 200_000 + b'"\n', "line 2"),
        (b"a,b\n", "wrong.csv"),
    ],
)
def test_an_invalid_table_is_a_one_line_error(tmp_path: Path, capsys: Capture, content: bytes, words: str) -> None:
    (tmp_path / "wrong.csv").write_bytes(content)
    error = refused(["train", "anomaly-table", f"--data.path={tmp_path / 'wrong.csv'}", "--run-dir=x"], capsys)
    assert words in error


def test_files_are_read_as_the_kind_of_the_run(run_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    fraud = tmp_path / "fraud.csv"  # with column names of an interactions file
    fraud.write_text("customer_id,product_id,height\nred,blue,170\n", encoding="utf-8")
    assert len(scores(run_dir, fraud)) == 1
    (tmp_path / "s.txt").write_text("a sentence\n", encoding="utf-8")
    error = refused(["score", str(run_dir), f"--data={tmp_path / 's.txt'}", f"--out={tmp_path / 'o.csv'}"], capsys)
    assert "s.txt" in error


def test_examples_are_written_in_original_units_and_categories(run_dir: Path, tmp_path: Path) -> None:
    commands: dict[str, list[str]] = {
        "samples.csv": ["sample", "--num=20"],
        "reconstructions.csv": ["reconstruct", "--num=20"],
        "traversal.csv": ["traverse", "--dimensions=2", "--steps=3"],
    }
    found = {}
    for name, (command, *options) in commands.items():
        assert cli.main([command, str(run_dir), *options, f"--out={tmp_path}"]) == 0
        with (tmp_path / name).open(encoding="utf-8") as file:
            found[name] = list(csv.DictReader(file))
    assert list(found["samples.csv"][0]) == list(NAMES)
    assert all(120 < float(row["height"]) < 220 for row in found["samples.csv"])
    assert {row["code"] for row in found["samples.csv"]} <= {"001", "002", "A7", "(other)"}
    original = found["reconstructions.csv"][0]
    assert [original["of"], original["height"], original["code"]] in [
        ["data", f"{float(row[0]):.6g}", row[1]] for row in rows_of(300)
    ]
    names = [row["row"] for row in found["traversal.csv"]]
    assert sorted(names) == ["z0"] * 3 + ["z1"] * 3


def test_missing_values_are_written_as_empty_cells(run_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "gaps.csv", [["", "", "70.00", "0"]])
    assert cli.main(["reconstruct", str(run_dir), f"--data={path}", f"--out={tmp_path / 'r.csv'}"]) == 0
    with (tmp_path / "r.csv").open(encoding="utf-8") as file:
        original, model = list(csv.DictReader(file))
    assert (original["height"], original["code"], original["weight"]) == ("", "", "70")
    assert model["height"]
    assert model["code"]


@pytest.mark.parametrize("change", ["deleted", "longer"])
def test_a_missing_or_changed_training_file_is_an_error(
    run_dir: Path, tmp_path: Path, capsys: Capture, change: str
) -> None:
    directory = run_dir.parent / "people.csv"
    kept = tmp_path / "kept.csv"
    shutil.copy(directory, kept)
    changes: dict[str, Callable[[], object]] = {
        "deleted": directory.unlink,
        "longer": lambda: write(directory, rows_of(310)),
    }
    changes[change]()
    try:
        error = refused(["anomaly-report", str(run_dir)], capsys)
        assert str(directory) in error
        assert ("300" in error) == (change == "longer")
        assert len(report(run_dir, tmp_path / "s.csv", f"--data={kept}")) == 300
        assert cli.main(["sample", str(run_dir), "--num=3", f"--out={tmp_path / 'x.csv'}"]) == 0
    finally:
        shutil.copy(kept, directory)


@pytest.fixture(scope="module")
def identified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on rows that have IDs, people.csv, and of rows to be scored, new.csv."""
    folder = tmp_path_factory.mktemp("identified")
    for name, num in (("people.csv", 200), ("new.csv", 40)):
        rows = [[f"P-{number:03}", *row] for number, row in enumerate(rows_of(num, seed=num))]
        (folder / name).write_text("\n".join(",".join(row) for row in [["person", *NAMES, "anomaly"], *rows]) + "\n")
    words = [f"--data.path={folder / 'people.csv'}", f"--run-dir={folder / 'run'}", "--data.table.id=person", *OPTIONS]
    assert cli.main(["train", "anomaly-table", *words]) == 0
    return folder


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_outputs_keep_the_ids_of_the_rows(identified: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, new = identified / "run", identified / "new.csv"
    found = report(run, tmp_path / "report.csv", f"--data={new}", "--top=1")
    assert [(row["row"], row["person"]) for row in found] == [(str(n + 1), f"P-{n:03}") for n in range(40)]
    least_likely = max(found, key=lambda row: float(row["anomaly_score"]))
    assert re.search(rf"^ +{least_likely['row']} +{least_likely['person']} ", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["score", str(run), f"--out={tmp_path / 'scores.csv'}", f"--data={new}"]) == 0
    assert [row["person"] for row in table_of(tmp_path / "scores.csv")] == [row["person"] for row in found]
    ids = [row["person"] for row in report(run, tmp_path / "test.csv")]  # the test rows of the run
    rows = [int(row["row"]) for row in table_of(tmp_path / "test.csv")]
    assert ids == [f"P-{row - 1:03}" for row in rows]
    assert len(set(ids)) == len(ids) < 200


def test_contamination_marks_rows_above_a_threshold_of_the_training_rows(identified: Path, tmp_path: Path) -> None:
    run, people = identified / "run", identified / "people.csv"
    found = report(run, tmp_path / "report.csv", f"--data={people}", "--contamination=0.05")
    marked = [row for row in found if row["is_anomaly"] == "1"]
    assert 0.02 * len(found) < len(marked) < 0.1 * len(found)
    assert min(float(row["anomaly_score"]) for row in marked) > max(
        float(row["anomaly_score"]) for row in found if row["is_anomaly"] == "0"
    )
    assert cli.main(["score", str(run), f"--out={tmp_path / 'scores.csv'}", "--contamination=0.05"]) == 0
    assert {row["is_anomaly"] for row in table_of(tmp_path / "scores.csv")} <= {"0", "1"}
    assert "is_anomaly" not in report(run, tmp_path / "report.csv")[0]


@pytest.mark.parametrize("value", ["0", "0.7", "nan"])
def test_a_wrong_contamination_is_a_one_line_error(
    identified: Path, tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("anomaly-report", "score"):
        words = [command, str(identified / "run"), f"--out={tmp_path / 'x.csv'}", f"--contamination={value}"]
        assert "--contamination: must be in (0, 0.5]" in refused(words, capsys)


def test_a_threshold_of_other_data_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--train.steps=2 --train.final-samples=1 --train.global-batch-size=8 --train.no-pictures".split()
    assert cli.main(["train", "digits", f"--run-dir={tmp_path / 'run'}", *words]) == 0
    words = ["score", str(tmp_path / "run"), f"--out={tmp_path / 'x.csv'}", "--contamination=0.1"]
    assert "was not trained on a table" in refused(words, capsys)
    (tmp_path / "images").mkdir()
    words = ["compress", str(tmp_path / "run"), f"--data={tmp_path / 'images'}", f"--out={tmp_path / 'x.fvc'}"]
    assert "0 images read" in refused(words, capsys)
