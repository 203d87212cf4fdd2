"""Data files for a finished run: read as the run's kind, also if the training file was deleted or replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastvae import cli
from tests import corpus

SHORT = ("--train.steps=3", "--train.global-batch-size=8", "--train.final-samples=1")


def rows(num: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1e4, 3e3, (num, 2))


def write_csv(path: Path, numbers: np.ndarray, header: str = "x0,x1") -> Path:
    path.write_text("\n".join([header, *(",".join(map(repr, row)) for row in numbers.tolist())]) + "\n")
    return path


def train(recipe: str, run_dir: Path, path: Path, *options: str) -> Path:
    assert cli.main(["train", recipe, f"--run-dir={run_dir}", f"--data.path={path}", *SHORT, *options]) == 0
    return run_dir


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Return the one-line error of a refused command."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_path_is_read_as_the_kind_of_the_recipe(tmp_path: Path) -> None:
    """A table, although its columns have the names of users and items."""
    file = write_csv(tmp_path / "fraud.csv", rows(), "customer_id,product_id")
    run = train("anomaly-table", tmp_path / "run", file)
    assert cli.main(["anomaly-report", str(run), f"--data={file}", f"--out={tmp_path / 'out.csv'}"]) == 0
    assert cli.main(["score", str(run), f"--data={file}", f"--out={tmp_path / 'out.csv'}"]) == 0
    reviews = tmp_path / "reviews.tsv"
    reviews.write_text("user\titem\tlabel\tsentence\n" + "a\tb\t1\ta good film\n" * 20)
    train("sst2-sentences", tmp_path / "text", reviews, "--model.hidden-dim=8", "--train.precision=fp32")


def test_a_path_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_csv(tmp_path / "fraud.csv", rows())
    for recipe, words in (("sst2-sentences", "must be a .txt file"), ("spoken-digits", "must be a folder of rec")):
        assert words in said(capsys, "train", recipe, f"--data.path={file}", f"--run-dir={tmp_path / 'no'}")
    assert "one of items" in said(capsys, "train", "movielens-100k", f"--data.path={file}", f"--run-dir={tmp_path}/no")
    (tmp_path / "liked.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(20) for i in range(8)))
    run = train(
        "movielens-100k", tmp_path / "rec", tmp_path / "liked.csv", "--data.interactions.min-rating", "None",
        "--model.latent-dim=4",
    )  # fmt: skip
    assert "one of items" in said(capsys, "score", run, f"--data={file}", f"--out={tmp_path / 'out.csv'}")


def test_a_run_without_the_record_of_its_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("anomaly-table", tmp_path / "run", write_csv(tmp_path / "num.csv", rows(), "a,b"))
    (run / "data" / "file.json").unlink()
    assert "file.json of the run does not describe the file" in said(capsys, "anomaly-report", run)


def test_a_recommender_works_without_its_training_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "liked.csv"
    file.write_text("user,item\n" + "".join(f"{u},{(u + i) % 12}\n" for u in range(20) for i in range(8)))
    run = train(
        "movielens-100k", tmp_path / "run", file, "--data.interactions.min-rating", "None", "--model.latent-dim=4"
    )
    file.unlink()
    assert cli.main(["recommend", str(run), "--items", "3;4", "--top", "2"]) == 0
    assert cli.main(["sample", str(run), "--num=2", f"--out={tmp_path / 'out.txt'}"]) == 0
    assert "no such file or folder" in said(capsys, "evaluate", run)


def test_a_text_model_works_without_its_training_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = corpus.write(tmp_path / "a.tsv", 60)
    run = train("sst2-sentences", tmp_path / "text", sentences, "--model.hidden-dim=8", "--train.precision=fp32")
    sentences.unlink()
    assert cli.main(["sample", str(run), "--num=2", f"--out={tmp_path / 'out.txt'}"]) == 0
    assert "no such file or folder" in said(capsys, "evaluate", run)


def test_an_audio_model_works_without_its_training_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "wavs"
    folder.mkdir()
    for take in range(20):
        noise = np.random.default_rng(take).normal(size=4000) * 0.1
        soundfile.write(folder / f"{take % 2}_anna_{take}.wav", noise, 8000)
    run = train("spoken-digits", tmp_path / "audio", folder, "--model.hidden-dim", "8")
    (folder / "0_anna_0.wav").unlink()
    assert "has changed since" in said(capsys, "evaluate", run)
    assert cli.main(["sample", str(run), "--num=2", f"--out={tmp_path / 'voices'}"]) == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": rows(30), "y": np.zeros(5)}, "y must have one label for each of 30 rows, got shape [5]"),
        ({"X": rows(30), "y": np.array(["a"] * 30)}, "not a table: y must hold numbers, got <U1"),
        ({"X": rows(30).astype(str)}, "not a table: X must hold numbers, got <U"),
        ({"X": rows(30), "y": np.arange(30)}, "must contain 0 and 1 only, got 2; if it is not a label, set"),
    ],
)
def test_an_invalid_npz_table_is_a_one_line_error(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    error = said(capsys, "train", "anomaly-table", f"--data.path={tmp_path / 'x.npz'}", f"--run-dir={tmp_path / 'no'}")
    assert "x.npz" in error
    assert message in error


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"\x93NUMPY"])
def test_a_file_that_is_not_a_table_is_a_one_line_error(
    tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    error = said(capsys, "train", "anomaly-table", f"--data.path={tmp_path / name}", f"--run-dir={tmp_path / 'no'}")
    assert ("must be a CSV, TSV or npz file" if name == "x.npy" else "x.npz: not a table") in error


def test_a_truncated_npz_table_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez_compressed(tmp_path / "whole.npz", X=rows())
    whole = bytearray((tmp_path / "whole.npz").read_bytes())
    whole[100:200] = bytes(100)
    (tmp_path / "x.npz").write_bytes(whole)
    words = ("train", "anomaly-table", f"--data.path={tmp_path / 'x.npz'}", f"--run-dir={tmp_path / 'no'}")
    assert "x.npz: not a table" in said(capsys, *words)
