"""The recommender on the command line: train on a file, then recommend items for one user or a file of users."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from fastvae import cli, load
from fastvae.applications.recommendation import Recommender, write_recommendations
from fastvae.data import Source

GENRES, PER_GENRE = 4, 12


def write_ratings(path: Path, users: int = 120) -> Path:
    """Write interactions: each user has 8 of the 12 items of one genre."""
    generator = torch.Generator().manual_seed(0)
    lines = ["user_id,item_id"]
    for user in range(users):
        for item in torch.randperm(PER_GENRE, generator=generator)[:8].tolist():
            lines.append(f"{user},g{user % GENRES}-{item}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommendation")
    path = write_ratings(folder / "ratings.csv")
    titles = [f"g{i // 12}-{i % 12},Item {i % 12} of genre {i // 12}" for i in range(GENRES * PER_GENRE)]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(titles) + "\n")
    words = [
        "train", "movielens-100k", f"--run-dir={folder / 'run'}", "--data.name=file", f"--data.path={path}",
        "--data.interactions.min-rating=None", "--train.steps=150", "--train.global-batch-size=32", "--train.lr=3e-3",
        "--model.hidden-dim", "32", "--model.latent-dim=8", "--train.objective.kl-warmup=150",
    ]  # fmt: skip
    assert cli.main(words) == 0
    return folder / "run"


def test_training_writes_ranked_titles(run_dir: Path) -> None:
    assert "of genre" in (run_dir / "samples.txt").read_text()
    assert re.search(r"user 0 has\n  Item \d+ of genre", (run_dir / "reconstructions.txt").read_text())


def test_recommendations_are_the_remaining_items_of_the_genre(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "Item 0 of genre 2;g2-1;item 2 of GENRE 2"
    assert cli.main(["recommend", str(run_dir), "--items", own, "--top", "5"]) == 0
    understood, _, *ranked = capsys.readouterr().out.splitlines()
    assert understood.endswith(" Item 0 of genre 2; Item 1 of genre 2; Item 2 of genre 2")
    titles = re.findall(r"Item (\d+) of genre (\d)", "\n".join(ranked))
    assert len(titles) == 5
    assert all(genre == "2" and int(item) > 2 for item, genre in titles)


def test_similar_items_are_of_the_same_genre(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recommend", str(run_dir), "--similar", "Item 3 of genre 1", "--top", "6"]) == 0
    understood, _, *ranked = capsys.readouterr().out.splitlines()
    assert understood.endswith(" Item 3 of genre 1")
    genres = re.findall(r"of genre (\d)", "\n".join(ranked))
    assert genres == ["1"] * 6


def test_recommendations_for_a_file_of_users(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "people.tsv").write_text("user\titem\nann\tg0-1\nann\tg0-2\nbob\tg3-4\nbob\tunknown\n")
    out = tmp_path / "new" / "answers.csv"
    arguments = ["recommend", str(run_dir), "--data", str(tmp_path / "people.tsv"), "--out", str(out), "--top", "3"]
    assert cli.main(arguments) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["user"], row["rank"]) for row in rows] == [(u, str(r)) for u in ("ann", "bob") for r in (1, 2, 3)]
    assert {row["item"][:2] for row in rows if row["user"] == "ann"} == {"g0"}
    assert not {"g0-1", "g0-2", "g3-4"} & {row["item"] for row in rows}


def test_ratings_below_the_minimum_are_ignored(run_dir: Path, tmp_path: Path) -> None:
    run = load(run_dir)
    (tmp_path / "low.csv").write_text("user,item,rating\nann,g0-1,1\nann,g1-2,5\nbob,g0-1,3.9\n")
    (tmp_path / "same.csv").write_text("user,item\nann,g1-2\n")
    with_minimum = replace(run.config.data, interactions=replace(run.config.data.interactions, min_rating=4.0))
    run = replace(run, config=replace(run.config, data=with_minimum))
    for name in ("low", "same"):
        write_recommendations(Recommender.of_run(run), tmp_path / f"{name}.csv", tmp_path / f"{name}-out.csv", 60)
    texts = ((tmp_path / f"{name}-out.csv").read_text() for name in ("low", "same"))
    low, same = (list(csv.DictReader(text.splitlines())) for text in texts)
    assert [row["item"] for row in low[:10]] == [row["item"] for row in same[:10]]
    assert len(low) == len(same) + GENRES * PER_GENRE  # bob, without any items, gets recommendations too
    assert run.source(tmp_path / "low.csv")[torch.arange(2)].to_dense().sum(1).tolist() == [1, 0]
    (tmp_path / "low.csv").write_text("user,item,rating\nann,g0-1,1\n")
    with pytest.raises(ValueError, match=r"low\.csv.* 1 item .*rating of at least 4"):
        run.score(tmp_path / "low.csv")


def test_training_and_recommendation_from_a_sparse_matrix(tmp_path: Path) -> None:
    users = np.arange(60)
    items = np.sort(np.stack([np.random.default_rng(user).permutation(PER_GENRE)[:8] for user in users]), axis=1)
    columns = (items + (users[:, None] % GENRES) * PER_GENRE).ravel()
    matrix = sparse.csr_matrix((np.ones(len(columns)), columns, users.repeat(8).searchsorted(np.arange(61))))
    sparse.save_npz(tmp_path / "own.npz", matrix)
    words = [
        "train", "movielens-100k", f"--run-dir={tmp_path / 'run'}", f"--data.path={tmp_path / 'own.npz'}",
        "--data.interactions.min-rating=None", "--train.steps=5", "--train.global-batch-size=16",
    ]  # fmt: skip
    assert cli.main(words) == 0
    run, out = tmp_path / "run", tmp_path / "answers.csv"
    arguments = ["recommend", str(run), f"--data={tmp_path / 'own.npz'}", f"--out={out}", "--top=999"]
    assert cli.main(arguments) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["user"] for row in rows} == set(map(str, users))
    num_items = load(run).data.event_shape[0]
    assert len(rows) == len(users) * (num_items - 8)  # --top is limited to the items that a user does not have


def test_the_report_compares_the_run_with_popularity_and_ease(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["recommend", str(run_dir), "--report"]) == 0
    table = capsys.readouterr().out
    *lines, last = table.splitlines()[1:]
    assert last == "held out: a random fifth of each test user's items"
    recall = {line.split()[0]: float(re.findall(r"0\.\d+|1\.0+", line)[0]) for line in lines}
    assert recall.keys() == {"popularity", "EASE", "movielens-100k"}
    assert recall["movielens-100k"] > 0.9


def test_the_report_omits_ease_above_the_memory_limit(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(source: Source) -> Tensor:
        raise AssertionError("items x items")

    for module in ("applications.recommendation.baselines", "applications.recommendation.recommend"):
        monkeypatch.setattr(f"fastvae.{module}.gram", never)
    assert cli.main(["recommend", str(run_dir), "--report", "--max-gib", "1e-6"]) == 0
    table, _, last = capsys.readouterr().out.rstrip().rsplit("\n", 2)
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["popularity", "movielens-100k"]
    size = GENRES * PER_GENRE
    assert all(words in last for words in ("EASE", f"{size} x {size}", "6.87e-05 GiB", "1e-06", "--max-gib"))


def test_one_user_gets_the_same_recommendations_as_in_a_batch(run_dir: Path) -> None:
    run = load(run_dir)
    recommender = Recommender.of_run(run)
    counts = run.data.test[torch.arange(4)]
    batch = list(recommender.recommend_all(counts, 5))
    own = [recommender.catalogue.ids[item] for item in counts[0].to_dense().nonzero().flatten().tolist()]
    alone = recommender.recommend(own, 5)
    assert [s.id for s in alone] == [s.id for s in batch[0]]


@pytest.fixture
def run_without_ratings(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run that claims to be trained on MovieLens, whose files do not exist."""
    monkeypatch.delenv("FASTVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    config = (run / "config.yaml").read_text()
    config = re.sub(r"^  path: .*$", "  path: null", config, flags=re.MULTILINE)
    (run / "config.yaml").write_text(config.replace("  name: file\n", "  name: movielens-100k\n"))
    return run


@pytest.mark.parametrize("command", ["evaluate", "score --out=s.csv", "traverse", "reconstruct", "recommend --report"])
def test_commands_that_need_the_missing_ratings_fail(
    run_without_ratings: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command.split()
    assert cli.main([name, str(run_without_ratings), *options]) == 2
    captured = capsys.readouterr()
    assert "movielens-100k: ml-100k.inter" in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_commands_that_do_not_need_the_missing_ratings_work(
    run_without_ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(run_without_ratings)
    assert cli.main(["recommend", run, "--items", "Item 0 of genre 2"]) == 0
    assert cli.main(["recommend", run, "--similar", "Item 0 of genre 2"]) == 0
    (tmp_path / "people.csv").write_text("user,item\nann,g0-1\n")
    assert cli.main(["recommend", run, "--data", str(tmp_path / "people.csv")]) == 0
    assert cli.main(["score", run, "--data", str(tmp_path / "people.csv"), "--out", str(tmp_path / "s.csv")]) == 0
    assert cli.main(["sample", run, "--num", "2", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--items", "item 1"], "'item 1'"),
        (["--items", "nothing like it"], "'nothing like it'"),
        (["--items", " ; "], "at least one item"),
        ([], "--items, --similar, --data"),
        (["--items", "g0-1", "--report"], "--items, --similar, --data"),
        (["--report", "--max-gib", "nan"], "--max-gib"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_invalid_options_are_one_line_errors(
    run_dir: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["recommend", str(run_dir), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_works_after_its_data_file_was_moved(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratings = run_dir.parent / "ratings.csv"
    ratings.rename(tmp_path / "ratings.csv")
    try:
        assert cli.main(["recommend", str(run_dir), "--items", "Item 0 of genre 2"]) == 0
        assert cli.main(["recommend", str(run_dir), "--data", str(tmp_path / "ratings.csv")]) == 0
        capsys.readouterr()
        assert cli.main(["recommend", str(run_dir), "--report"]) == 2
        error = capsys.readouterr().err
        assert f" {ratings}: " in error
        assert error.count("\n") == 1
    finally:
        (tmp_path / "ratings.csv").rename(ratings)
