"""`fastvae probe`: in Python, on a run whose latents are known to separate the classes, and on the command line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import fastvae
from fastvae import cli
from fastvae.applications.probe import ProbeConfig, probe, write_maps
from fastvae.distributions import DiagonalGaussian
from fastvae.run import LoadedRun
from tests import corpus


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("probe") / "run"
    options = "--train.steps 20 --train.final-samples 1 --model.hidden-dim 16 --model.latent-dim 3"
    assert cli.main(["train", "digits", f"--run-dir={directory}", *options.split()]) == 0
    return directory


class Oracle(nn.Module):
    """Encodes an image as the mean brightness of its upper and of its lower half."""

    def encode(self, batch: fastvae.Batch) -> DiagonalGaussian:
        halves = batch.x.unflatten(2, (2, -1)).mean((1, 3, 4))
        return DiagonalGaussian(halves, torch.zeros_like(halves))


def halves_run(run_dir: Path) -> LoadedRun:
    """A run on images whose class says which half is brighter; the noise has more variance than this difference."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 2
    brightness = torch.rand(300, 1, 1, generator=generator)
    images = torch.rand(300, 1, 8, 8, generator=generator) * 0.2 + 0.5 * brightness.unsqueeze(-1)
    for half in (0, 1):
        images[labels == half, :, 4 * half : 4 * half + 4] += 0.1
    data = fastvae.data.as_data((images, labels))
    return replace(fastvae.load(run_dir), data=data, model=Oracle())


def test_features_that_separate_the_classes_have_a_high_accuracy(run_dir: Path) -> None:
    means, pca, raw = probe(halves_run(run_dir), ProbeConfig(neighbours=5))
    assert [row.features for row in (means, pca, raw)] == ["posterior means", "PCA of the input", "input"]
    assert [row.dimensions for row in (means, pca, raw)] == [2, 2, 64]
    assert means.logistic_accuracy == 1.0
    assert means.knn_accuracy > 0.9
    assert raw.logistic_accuracy > 0.9


def test_random_labels_have_chance_accuracy(run_dir: Path) -> None:
    run = halves_run(run_dir)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(1)) % 2
    images = torch.cat([run.data.train[torch.arange(270)], run.data.test[torch.arange(30)]])
    run = replace(run, data=fastvae.data.as_data((images, shuffled), test_every=2))
    assert all(0.3 < row.knn_accuracy < 0.7 for row in probe(run, ProbeConfig(neighbours=5)))


def test_the_command_prints_a_table_and_draws_maps(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--probe.num-train=300", "--probe.num-test=100", "--map-examples=40"]
    assert cli.main(["probe", str(run_dir), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["features", "dimensions", "kNN", "logistic"]
    assert lines[-1] == str(run_dir / "probe.png")
    with Image.open(run_dir / "probe.png") as picture:
        assert picture.width > picture.height > 300  # two maps side by side
    assert cli.main(["probe", str(run_dir), *options[:2], "--map-examples=0", "--json", "--probe.no-raw"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["dimensions"] for row in rows] == [3, 3]
    assert rows[1]["knn_accuracy"] > 0.4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: ProbeConfig(neighbours=0), "neighbours .*got 20000, 10000 and 0"),
        (lambda run: probe(run, ProbeConfig(num_train=5)), "10 .*neighbours.* got 5"),
        (lambda run: write_maps(run, Path("x.png"), num_examples=3), "10 test examples, got 3"),
    ],
)
def test_invalid_settings_are_named(run_dir: Path, call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(halves_run(run_dir))  # type: ignore[operator]


def test_probing_requires_two_classes(run_dir: Path) -> None:
    data = fastvae.data.as_data((torch.rand(60, 1, 8, 8), torch.zeros(60, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"2 classes, got 1 .*54"):
        probe(replace(fastvae.load(run_dir), data=data))


def test_a_label_conditional_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train digits --data.condition label --train.steps 2 --train.final-samples 1 --model.hidden-dim 16"
    assert cli.main([*words.split(), f"--run-dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert cli.main(["probe", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "--data.condition label" in error
    assert error.count("\n") == 1


def test_sentences_are_compared_with_their_token_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus.write(tmp_path / "moods.tsv", 400)
    words = (
        "train sst2-sentences --data.name file --data.text.max-length 8 --data.text.min-frequency 1 --train.steps 2"
        " --data.condition length --train.final-samples 1 --model.hidden-dim 8 --model.latent-dim 4"
        " --model.text.embedding-dim 8 --model.text.cutoffs 8 --train.objective.autoencoder-phase 0"
    )
    assert cli.main([*words.split(), f"--data.path={path}", f"--run-dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert cli.main(["probe", str(tmp_path / "run"), "--map-examples=20", "--json"]) == 0
    *_, counts = json.loads(capsys.readouterr().out)
    assert counts["features"] == "input"
    assert counts["logistic_accuracy"] == 1.0  # every sentence contains a word that occurs with one label only


def test_a_negative_number_of_map_examples_is_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["probe", str(run_dir), "--map-examples=-5"]) == 2
    assert re.search("--map-examples.*got -5", capsys.readouterr().err)


def test_data_without_labels_are_refused(run_dir: Path) -> None:
    run = replace(fastvae.load(run_dir), data=fastvae.data.as_data(torch.rand(30, 1, 8, 8)))
    with pytest.raises(ValueError, match="has no labels"):
        probe(run)
