"""Text end to end: a run on a small corpus, and all commands on the run."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastvae
from fastvae import cli
from fastvae.recipes import find_recipe
from tests import corpus
from tests.faults.program import Program
from tests.once import once

OPTIONS = (
    "train sst2-sentences --data.name file --data.text.max-length 8 --data.text.min-frequency 1 --train.steps 300"
    " --train.global-batch-size 32 --train.lr 0.01 --train.final-samples 2 --model.hidden-dim 32 --model.latent-dim 4"
    " --model.text.embedding-dim 16 --model.text.cutoffs 8 --train.objective.autoencoder-phase 50"
    " --train.objective.kl-warmup 50 --train.log-every 50 --train.device cpu"
).split()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "text", make_run) / "run"


def make_run(folder: Path) -> None:
    path = corpus.write(folder / "moods.tsv", 600)
    assert cli.main([*OPTIONS, "--data.path", str(path), "--run-dir", str(folder / "run")]) == 0


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_run_stores_its_tokenizer_and_sentences(run_dir: Path) -> None:
    assert (run_dir / "data" / "tokenizer.json").is_file()
    assert len(lines(run_dir / "samples.txt")) == 65
    assert len([line for line in lines(run_dir / "reconstructions.txt") if line.startswith("-> ")]) == 24


@pytest.mark.parametrize("label", ["good", "bad"])
def test_samples_have_the_requested_label_and_length(run_dir: Path, tmp_path: Path, label: str) -> None:
    words = ["sample", str(run_dir), "--num", "16", "--label", label, "--length", "6", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    title, *sentences = lines(tmp_path / "samples.txt")
    assert label in title
    assert [len(sentence.split()) for sentence in sentences] == [6] * 16
    of_label = [sum(word in corpus.WORDS[label] for word in sentence.split()) for sentence in sentences]
    others = [sum(word in mood for mood in corpus.WORDS.values() for word in s.split()) for s in sentences]
    assert sum(of_label) > 0.9 * sum(others)
    assert cli.main([*words[:-1], str(tmp_path / "again")]) == 0
    assert lines(tmp_path / "again" / "samples.txt") == [title, *sentences]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "9"], "length .*1 to 8"),
        (["--length", "0"], "length .*1 to 8"),
        (["--label", "ugly"], "label .*bad, good"),
    ],
)
def test_an_unavailable_condition_is_a_one_line_error(
    run_dir: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert cli.main(["sample", str(run_dir), *options]) == 2
    assert re.match(rf"fastvae: [^\n]*{message}[^\n]*\n$", capsys.readouterr().err)


def test_interpolations_change_gradually_from_one_length_to_the_other(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "interpolation.txt"
    assert (
        cli.main(["interpolate", str(run_dir), "--first", "0", "--second", "3", "--steps", "5", "--out", str(out)]) == 0
    )
    sentences = [line for line in lines(out) if line and not line.startswith("#")]
    texts = [text for _, text in corpus.rows(600)][::10]
    counts = [len(sentence.split()) for sentence in sentences]
    ends = [len(texts[number].split()) for number in (0, 3)]
    assert [counts[0], counts[-1]] == ends
    assert max(abs(count - length) for count, length in zip(counts, np.linspace(*ends, 5), strict=True)) <= 0.5
    assert cli.main(["traverse", str(run_dir), "--dimensions", "2", "--steps", "3", "--out", str(tmp_path)]) == 0


def test_scores_of_a_file_are_deterministic(run_dir: Path, tmp_path: Path) -> None:
    rows = ["label\tsentence", "good\ta warm film", "bad\ta warm film", "good\tfilm warm a zebra"]
    (tmp_path / "own.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name in ("scores.csv", "again.csv"):
        words = ["score", str(run_dir), "--data", str(tmp_path / "own.tsv"), "--out", str(tmp_path / name)]
        assert cli.main(words) == 0
    assert lines(tmp_path / "scores.csv") == lines(tmp_path / "again.csv")
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        nats = [float(list(row.values())[-1]) for row in csv.DictReader(file)]
    assert nats[0] < nats[1] < nats[2]
    words = ["encode", str(run_dir), "--data", str(tmp_path / "own.tsv"), "--out", str(tmp_path / "z.npz")]
    assert cli.main(words) == 0
    assert np.load(tmp_path / "z.npz")["mu"].shape == (3, 4)
    assert cli.main(["reconstruct", str(run_dir), "--data", str(tmp_path / "own.tsv"), "--out", str(tmp_path)]) == 0
    assert "a warm film" in lines(tmp_path / "reconstructions.txt")


def test_byte_order_marks_and_unicode_line_separators_are_handled(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own.tsv", tmp_path / "scores.csv"
    own.write_bytes("\ufefflabel\tsentence\r\ngood\ta warm\u2028film\r\nbad\ta dull\x85 film\r\n\r\n".encode())
    assert cli.main(["score", str(run_dir), "--data", str(own), "--out", str(out)]) == 0
    assert len(lines(out)) == 3
    own.write_text("label\tsentence\ngood\ta warm film\nbad\t \ngood\tfilm\n", encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["score", str(run_dir), "--data", str(own), "--out", str(out)]) == 2
    assert "own.tsv, line 3: " in capsys.readouterr().err


def test_samples_use_the_given_temperature(run_dir: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = fastvae.load(run_dir)
    condition = {"label": "good", "length": 6}
    cold, colder, warm = (run.sample(16, temperature=t, **condition) for t in (1e-4, 1e-5, 1.0))
    assert cold.tolist() == colder.tolist()  # only the most probable tokens are sampled
    assert len(set(map(tuple, warm.tolist()))) > len(set(map(tuple, cold.tolist())))
    out = ["--num=16", "--label=good", "--length=6", f"--out={tmp_path / 'cold.txt'}"]
    assert cli.main(["sample", str(run_dir), "--temperature=0.0001", *out]) == 0
    sentences = [tuple(line.split()) for line in lines(tmp_path / "cold.txt")[1:]]
    assert len(set(sentences)) == len(set(map(tuple, cold.tolist())))
    assert cli.main(["sample", str(run_dir), "--temperature=0"]) == 2
    assert re.search("temperature .*got 0", capsys.readouterr().err)


def test_variations_depend_on_the_seed(run_dir: Path) -> None:
    run = fastvae.load(run_dir)
    first, again, other = (run.vary(0, 8, strength=0.0, seed=seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_run_generates_samples_without_its_training_file(run_dir: Path, tmp_path: Path) -> None:
    with_file = fastvae.load(run_dir)
    path = run_dir.parent / "moods.tsv"
    expected = with_file.sample(5, label="bad", length=4)
    path.rename(tmp_path / "moods.tsv")
    try:
        without_file = fastvae.load(run_dir)
        assert without_file.sample(5, label="bad", length=4).equal(expected)
        with pytest.raises(ValueError, match=r"moods\.tsv"):
            without_file.reconstruct(2)
    finally:
        (tmp_path / "moods.tsv").rename(path)


def test_two_processes_train_like_one(tmp_path: Path, program: Program) -> None:
    """Word dropout, batches by length and the decoder's reset depend on the global batch only."""
    path = corpus.write(tmp_path / "moods.tsv", 200)
    words = [*OPTIONS, "--data.path", str(path), "--train.steps=12", "--train.objective.autoencoder-phase=6"]
    words += ["--train.precision=fp32", "--train.log-every=1", "--model.text.word-dropout=0.3"]
    found = []
    for ranks in (1, 2):
        run_dir = tmp_path / str(ranks)
        program.run_words(*words, f"--run-dir={run_dir}", output=tmp_path / f"output{ranks}", ranks=ranks)
        records = [json.loads(line) for line in lines(run_dir / "metrics.jsonl")]
        found.append([record["elbo_nats"] for record in records if record["kind"] in ("train", "final")])
    assert len(found[0]) == 13
    np.testing.assert_allclose(found[0], found[1], rtol=2e-4)


def test_the_control_differs_from_the_recipe_in_its_objective_only() -> None:
    recipe, control = find_recipe("sst2-sentences"), find_recipe("sst2-collapsed")
    assert recipe.model == control.model
    assert recipe.data == control.data
    assert recipe.train.objective.free_bits is not None
    assert control.train.objective.free_bits is None
    # The number of steps is the same: the control has no autoencoder steps, but trains longer as a VAE.
    assert control.train == replace(recipe.train, objective=control.train.objective)
