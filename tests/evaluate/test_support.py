"""A likelihood checks its data once, before the first step; a recipe binarises its default data only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastvae
from fastvae import VAE, Bernoulli, DataConfig, Gaussian, build_data, cli
from fastvae.commands.run_options import parse_run
from fastvae.data import Data, as_data
from fastvae.data.interactions.recommendation import interaction_data
from fastvae.data.interactions.source import InteractionSource
from fastvae.evaluate import check_support
from fastvae.likelihoods import DiscretizedLogistic, Multinomial, Support
from fastvae.run import read_config

UNIT = np.random.default_rng(0).random((40, 6), dtype=np.float32)
WHOLE = np.random.default_rng(0).integers(0, 9, (40, 6)).astype(np.float32)
SHORT = ("--train.steps=2", "--train.global-batch-size=8", "--train.final-samples=1", "--model.hidden-dim=8")


def model(likelihood: nn.Module) -> VAE:
    return VAE(nn.Identity(), nn.Identity(), likelihood, 2)


def changed(array: np.ndarray[Any, Any], value: float, row: int = 17) -> np.ndarray[Any, Any]:
    copy = array.copy()
    copy[row, 3] = value
    return copy


@pytest.mark.parametrize(
    ("likelihood", "array"),
    [
        (Bernoulli(), UNIT),
        (Bernoulli(), UNIT > 0.5),
        (Bernoulli(), (UNIT * 255).astype(np.uint8)),
        (Gaussian(), WHOLE * 1e6 - 5),
        (Multinomial(), WHOLE),
        (DiscretizedLogistic(1, 5), np.round(UNIT * 4) / 4),
        (DiscretizedLogistic(1, 256), (UNIT * 255).astype(np.uint8)),
        (DiscretizedLogistic(1, 65536), np.round(UNIT * 65535) / 65535),
    ],
)
def test_data_in_the_support_are_accepted(likelihood: nn.Module, array: Any) -> None:
    check_support(model(likelihood), as_data(array))


@pytest.mark.parametrize(
    ("likelihood", "array", "words"),
    [
        (
            Bernoulli(),
            changed(UNIT, 1.5),
            r"Bernoulli every value must be a number in \[0, 1\], got 1.5 in training exam",
        ),
        (Bernoulli(), changed(UNIT, -0.25, 10), r"got -0.25 in test example 1; use --model.likelihood gaussian"),
        (Bernoulli(), UNIT * 200, "pixels up to 255: give unsigned 8-bit integers"),
        (Multinomial(), changed(WHOLE, -1), r"must be a whole number of at least 0, got -1 in training example 15;"),
        (Multinomial(), changed(WHOLE, 2.5), r"got 2.5 in training example 15; give counts"),
        (DiscretizedLogistic(1, 5), changed(np.round(UNIT * 4) / 4, 0.3), "one of the 5 levels from 0 to 1, got 0.3"),
        (DiscretizedLogistic(1, 17), (UNIT * 255).astype(np.uint8), "one of the 17 levels from 0 to 1, got"),
    ],
)
def test_values_outside_the_support_are_refused_by_name(likelihood: nn.Module, array: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_support(model(likelihood), as_data(array))
    assert "\n" not in str(caught.value)


def test_counts_in_compressed_rows() -> None:
    def counts(value: float) -> Data:
        values = torch.ones(30)
        values[14] = value
        source = InteractionSource(torch.arange(0, 31, 3), torch.arange(30) % 3, 3, values)
        return interaction_data("shop", source, source, {})

    check_support(model(Multinomial()), counts(7.0))
    with pytest.raises(ValueError, match=r"shop: .* got 0.5 in training example 4"):
        check_support(model(Multinomial()), counts(0.5))


def test_shards_are_checked_on_a_sample_of_examples(tmp_path: Path) -> None:
    for shard in range(2):
        np.save(tmp_path / f"{shard}.npy", UNIT + shard)
    with pytest.raises(ValueError, match=r"every value must be a number in \[0, 1\]"):
        check_support(model(Bernoulli()), build_data(DataConfig(name="file", path=tmp_path)))


def test_a_missing_value_is_in_every_support() -> None:
    assert Support(low=0, high=1).outside(torch.tensor([0.0, 1.0, 1.5, float("nan")])).tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert Support().is_everything
    assert not Support(is_whole=True).is_everything


def test_training_checks_the_support_before_the_first_step(tmp_path: Path) -> None:
    small = fastvae.build_model(fastvae.ModelConfig(hidden_dim=(4,), latent_dim=2), [6])
    config = fastvae.TrainConfig(steps=1, global_batch_size=8, final_samples=1, device="cpu")
    with pytest.raises(
        ValueError, match=r"data: under the likelihood Bernoulli every value must be a number in \[0, 1\]"
    ):
        fastvae.train(small, UNIT * 3, config, run_dir=tmp_path / "run")


def test_a_finished_run_checks_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "unit.npy", UNIT)
    np.save(tmp_path / "large.npy", changed(UNIT, 7.0))
    run = tmp_path / "run"
    assert cli.main(["train", "mnist", f"--data.path={tmp_path / 'unit.npy'}", f"--run-dir={run}", *SHORT]) == 0
    capsys.readouterr()
    words = ["score", str(run), f"--out={tmp_path / 's.csv'}"]
    assert cli.main([*words, f"--data={tmp_path / 'unit.npy'}"]) == 0
    assert cli.main([*words, f"--data={tmp_path / 'large.npy'}"]) == 2
    assert "got 7 in " in (error := capsys.readouterr().err)
    assert "large.npy example 17" in error


def photographs(folder: Path) -> Path:
    noise = np.random.default_rng(0)
    for number in range(20):
        folder.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{number:02}.png")
    return folder


def test_users_photographs_are_not_binarised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe binarises pixels, which would destroy a photograph."""
    folder = photographs(tmp_path / "images")
    run = tmp_path / "run"
    words = [f"--data.path={folder}", f"--run-dir={run}", "--model.likelihood=gaussian", *SHORT]
    assert cli.main(["train", "mnist", *words]) == 0
    said = "".join(capsys.readouterr())
    assert read_config(run).data.binarize == "none"
    loaded = fastvae.load(run)
    grey = torch.from_numpy(np.array(Image.open(folder / "00.png"))) / 255
    torch.testing.assert_close(loaded.batch(torch.tensor([0])).x[0, 0], grey)
    assert loaded.evaluate().bits_per_dim is None
    assert "20 images read (20 .png)" in said
    assert "values are 256 levels, scaled to [0, 1] (--data.binarize none" in said


@pytest.mark.parametrize(
    ("words", "binarize"),
    [
        (["--data.path=x"], "none"),
        (["--data.path", "x"], "none"),
        (["--data.path=x", "--data.binarize=dynamic"], "dynamic"),
        (["--data.path=x", "--data.binarize", "static"], "static"),
        ([], "dynamic"),
    ],
)
def test_a_path_is_binarised_on_request_only(words: list[str], binarize: str) -> None:
    assert parse_run("train", "mnist", words).data.binarize == binarize


def test_a_density_of_binarised_pixels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "images")
    words = [f"--data.path={folder}", f"--run-dir={tmp_path / 'run'}", "--model.likelihood=gaussian", *SHORT]
    assert cli.main(["train", "mnist", *words, "--data.binarize=dynamic"]) == 2
    error = capsys.readouterr().err
    assert "binarised pixels are 0 or 1, and the likelihood Gaussian is a density" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("likelihood", "options", "has_bits"),
    [
        ("bernoulli", {}, True),
        ("gaussian", {}, False),
        ("gaussian", {"dequantize": True}, True),
        ("bernoulli", {"dequantize": True}, False),
    ],
)
def test_bits_are_reported_for_discrete_data_only(
    tmp_path: Path, likelihood: str, options: dict[str, Any], has_bits: bool
) -> None:
    data = as_data((UNIT > 0.5) if not options else (UNIT * 255).astype(np.uint8), **options)
    small = fastvae.build_model(fastvae.ModelConfig(hidden_dim=(4,), latent_dim=2, likelihood=likelihood), [6])
    config = fastvae.TrainConfig(steps=1, global_batch_size=8, final_samples=1, device="cpu")
    run = fastvae.train(small, data, config, run_dir=tmp_path)
    assert run.evaluation is not None
    assert (run.evaluation.bits_per_dim is not None) == has_bits


def test_the_interpretation_of_integers_is_reported() -> None:
    assert as_data(UNIT > 0.5).notes == ("data: unsigned 8-bit integers, all are 0 or 1: binary",)
    assert "256 grey levels" in as_data((UNIT * 255).astype(np.uint8)).notes[0]
    assert as_data(UNIT).notes == ()
