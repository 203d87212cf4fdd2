"""The interface of a finished run: a class-conditional VAE on digits, trained briefly."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fastvae
from fastvae import cli
from fastvae.data import load_examples
from fastvae.run import LoadedRun

OPTIONS = "--train.steps 80 --train.final-samples 2 --model.hidden-dim 32 --model.latent-dim 4 --data.condition label"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "run"
    assert cli.main(["train", "digits", f"--run-dir={directory}", *OPTIONS.split()]) == 0
    return directory


@pytest.fixture(scope="module")
def run(run_dir: Path) -> LoadedRun:
    return fastvae.load(run_dir)


def test_scores_agree_with_the_evaluation_and_are_deterministic(run: LoadedRun) -> None:
    scores = run.score()
    assert scores.shape == (360,)
    assert torch.equal(scores, run.score())
    assert scores.mean().item() == pytest.approx(-run.evaluate(1).elbo_nats)  # type: ignore[operator]
    assert run.score(num_samples=8).mean().item() == pytest.approx(run.evaluate(8).nll_nats, rel=1e-6)
    assert run.score("train").shape == (1437,)


def test_scores_of_a_file_equal_those_of_the_test_set(run: LoadedRun, tmp_path: Path) -> None:
    images = run.data.test[torch.arange(360)].numpy()
    np.savez(tmp_path / "mine.npz", x=images, y=run.data.test.labels.numpy())  # type: ignore[union-attr]
    torch.testing.assert_close(run.score(tmp_path / "mine.npz"), run.score())
    np.save(tmp_path / "few.npy", images[:, :, :5])
    with pytest.raises(ValueError, match=r"examples .*\[1, 8, 8\].* got \[1, 5, 8\]"):
        run.score(tmp_path / "few.npy")
    np.save(tmp_path / "unlabelled.npy", images)
    with pytest.raises(ValueError, match="conditioned on label, which these examples do not have"):
        run.score(tmp_path / "unlabelled.npy")


def test_many_samples_are_those_of_one_draw(run: LoadedRun) -> None:
    condition = run.data.conditions.vectors(600)  # type: ignore[union-attr]
    whole = run.model.sample(600, seed=2, condition=condition)  # type: ignore[operator]
    torch.testing.assert_close(run.sample(600, seed=2), whole)  # in chunks of 256
    assert len(run.vary(3, 300)) == 300


def test_a_prior_that_ignores_the_row_of_the_key_is_refused(run: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.model, "draw_prior", lambda num, key: torch.ones(num, 4) * key[0])
    assert run.sample(256).shape == (256, 1, 8, 8)
    with pytest.raises(ValueError, match=r"the same latents for different rows; row i of draw_prior\(num, noise_key\)"):
        run.sample(600)


def test_samples_follow_seed_and_condition(run: LoadedRun) -> None:
    threes = run.sample(5, seed=1, label="3")
    assert threes.shape == (5, 1, 8, 8)
    assert torch.equal(threes, run.sample(5, seed=1, label=3))
    assert not torch.equal(threes, run.sample(5, seed=2, label=3))
    in_turn = run.sample(5, seed=1)
    torch.testing.assert_close(in_turn[3], threes[3])  # the fourth of them all is a 3
    assert not torch.allclose(in_turn[2], threes[2])


def test_an_interpolation_starts_and_ends_at_reconstructions(run: LoadedRun) -> None:
    row = run.interpolate(4, 9, steps=5)
    originals, reconstructions = run.reconstruct(10)
    assert originals.shape == reconstructions.shape == (10, 1, 8, 8)
    torch.testing.assert_close(row[[0, -1]], reconstructions[[4, 9]])
    assert not torch.allclose(row[2], row[0])


def test_impossible_requests_are_one_line_errors(run: LoadedRun) -> None:
    for call, words in (
        (lambda: run.vary(0, 0), "vary: num must be at least 1, got 0"),
        (
            lambda: run.decode(torch.zeros(2, 9)),
            r"decode: z: must have the model's latent shape \[4\], got \[9\]",
        ),
        (
            lambda: run.sample(2, shift=torch.zeros(99)),
            r"sample: shift: must have the model's latent shape \[4\], got \[99\]",
        ),
        (lambda: run.traverse(start=3, label="4"), "start takes the example's own condition; leave out label"),
        (lambda: run.attribute_direction("label"), "label requires a value, such as label=0"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_lengths_and_strengths_must_be_finite(run: LoadedRun) -> None:
    with pytest.raises(ValueError, match="span must be a finite number, got nan"):
        run.traverse(2, span=math.nan)
    with pytest.raises(ValueError, match="strength must be a finite number, got inf"):
        run.vary(0, strength=math.inf)


def test_variations_differ_more_with_a_larger_strength(run: LoadedRun) -> None:
    _, reconstructions = run.reconstruct(3)
    torch.testing.assert_close(run.vary(2, 4, strength=0.0), reconstructions[2].expand(4, -1, -1, -1))
    near, far = (run.vary(2, 4, strength=s).sub(reconstructions[2]).square().sum() for s in (0.1, 1.0))
    assert 0 < near < far


def test_traversals_change_one_dimension_at_a_time(run: LoadedRun) -> None:
    rows = run.traverse(3, steps=5, span=2.0, start=7)
    assert rows.examples.shape == (3, 5, 1, 8, 8)
    assert len(set(rows.names)) == 3
    _, reconstructions = run.reconstruct(8)
    torch.testing.assert_close(rows.examples[:, 2], reconstructions[7].expand(3, -1, -1, -1))
    means = run.encode()["mu"]
    assert rows.names[0] == f"z{means.var(0).argmax()}"
    moved = run.traverse(1, steps=3, span=2.0, start=7).examples[0, 2]
    z = means[7].clone()
    z[int(rows.names[0][1:])] += 2.0 * means.std(0)[int(rows.names[0][1:])]
    torch.testing.assert_close(moved, run.decode(z[None], label=int(run.data.test.labels[7]))[0])  # type: ignore[index]


def test_an_attribute_is_a_difference_of_means(run: LoadedRun) -> None:
    means, labels = run.encode("train")["mu"], run.data.train.labels
    assert labels is not None
    direction = run.attribute_direction("label=3")
    torch.testing.assert_close(direction, means[labels == 3].mean(0) - means[labels != 3].mean(0))
    assert torch.equal(direction, run.attribute_direction("3"))
    shifted = run.sample(4, shift=2 * direction, label=3)
    assert not torch.allclose(shifted, run.sample(4, label=3))
    with pytest.raises(ValueError, match="label must be one of 0, 1"):
        run.attribute_direction("smile")
    with pytest.raises(ValueError, match="must be one of label, such as label=3, got 'colour=red'"):
        run.attribute_direction("colour=red")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: run.sample(0), "num must be at least 1"),
        (lambda run: run.sample(2, colour=1), "conditioned on label, not on colour"),
        (lambda run: run.interpolate(0, 360), r"numbered 0 \.\. 359, got 360"),
        (lambda run: run.interpolate(0, 1, steps=1), "steps must be at least 2"),
        (lambda run: run.traverse(0), "dimensions must be at least 1"),
        (lambda run: run.score("nowhere.npz"), "no such file or folder"),
        (lambda run: run.score(num_samples=0), "num_samples must be at least 1"),
    ],
)
def test_invalid_requests_are_refused_by_name(run: LoadedRun, call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(run)  # type: ignore[operator]


def test_a_run_works_without_its_data(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    source = tmp_path / "mine.npz"
    np.savez(source, x=generator.integers(0, 256, (60, 4, 4), dtype=np.uint8), y=np.arange(60) % 3)
    directory = tmp_path / "run"
    options = "--train.steps 3 --train.final-samples 1 --train.global-batch-size 8 --data.condition label"
    words = ["train", "mnist", f"--run-dir={directory}", f"--data.path={source}"]
    assert cli.main([*words, *options.split()]) == 0
    before = fastvae.load(directory).sample(4, label=2)
    source.unlink()
    run = fastvae.load(directory)
    assert torch.equal(run.sample(4, label=2), before)
    with pytest.raises(ValueError, match=r"the run's examples cannot be read: .*mine.npz: no such file"):
        run.score()
    shutil.rmtree(directory / "data")
    with pytest.raises(ValueError, match="no such file"):
        fastvae.load(directory)


def test_examples_by_index_are_those_of_the_evaluation(run: LoadedRun) -> None:
    whole = next(iter(run.batches())).batch
    picked = load_examples(run.data.test, run.data.preprocess, torch.tensor([5, 2]), seed=run.config.seed)
    assert torch.equal(picked.x, whole.x[[5, 2]])


def test_commands_write_files(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    commands = {
        "samples.png": ["sample", "--num=4", "--label=3"],
        "interpolation.png": ["interpolate", "--first=0", "--second=1", "--steps=3"],
        "traversal.png": ["traverse", "--dimensions=2", "--label=1"],
        "reconstructions.png": ["reconstruct", "--num=3"],
    }
    for name, (command, *options) in commands.items():
        assert cli.main([command, str(run_dir), *options, f"--out={folder}"]) == 0
        assert capsys.readouterr().out.strip() == str(folder / name)
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    for options in (["--like=3", "--strength=0.2"], ["--attribute=3", "--strength=2"]):
        assert cli.main(["sample", str(run_dir), *options, f"--out={folder / 'other.png'}"]) == 0
    assert cli.main(["traverse", str(run_dir), "--attribute=label=5", f"--out={folder}"]) == 0
    assert cli.main(["score", str(run_dir), f"--out={folder / 's.csv'}", "--num-samples=2"]) == 0
    with (folder / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = fastvae.load(run_dir).score(num_samples=2)
    assert [float(row["nll_nats"]) for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--label=ten"], "label must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got 'ten'"),
        (["--length=4"], "conditioned on label, not on length"),
        (["--condition", "speaker"], "must be NAME=VALUE, such as speaker=george, got 'speaker'"),
        (["--label=3", "--condition", "label=4"], "label is given twice, as 3 and 4; remove one"),
        (["--like=1", "--num=0"], "num must be at least 1, got 0"),
        (
            ["--out=samples.txt"],
            "--out: the file must end in .png, .jpg",
        ),
        (["--temperature=0.5"], "temperature requires a model of sentences, got VAE"),
        (["--strength=2"], "requires --like or --attribute"),
        (["--like=1", "--strength=nan"], "--strength must be a finite number, got nan"),
        (["--attribute=3", "--strength=inf"], "--strength must be a finite number, got inf"),
        (["--like=1", "--label=2"], "uses the example's own condition"),
    ],
)
def test_invalid_arguments_are_one_line_errors(
    run_dir: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sample", str(run_dir), *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_run_is_resumed_with_its_own_file_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, other = (np.random.default_rng(seed).integers(0, 256, (60, 4, 4), dtype=np.uint8) for seed in (0, 1))
    words = ["train", "mnist", f"--run-dir={tmp_path / 'run'}", f"--data.path={tmp_path / 'mine.npy'}"]
    words += ["--train.final-samples=1", "--train.global-batch-size=8", "--train.checkpoint-every=2"]
    np.save(tmp_path / "mine.npy", source)
    assert cli.main([*words, "--train.steps=4"]) == 0
    np.save(tmp_path / "mine.npy", other)
    capsys.readouterr()
    assert cli.main([*words, "--train.steps=6"]) == 2
    error = capsys.readouterr().err
    assert "started with another file: mine.npy has other contents, 60 examples instead of 60" in error
    np.save(tmp_path / "mine.npy", source)
    assert cli.main([*words, "--train.steps=6"]) == 0
