"""The command line: commands, options and error messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastvae
from fastvae import cli
from fastvae.commands.parsing import option_names
from fastvae.commands.run_options import ALIASES, parse_run
from fastvae.run import RunConfig
from tests import launching


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cli") / "run"
    options = ["--train.steps=60", "--train.final-samples=4", "--model.hidden-dim", "32", "--model.latent-dim=3"]
    result = launching.fastvae("train", "digits", f"--run-dir={directory}", *options)
    for expected in ("elbo_nats", "nll_nats", "bits_per_dim", f"run directory  {directory}", "curves.png"):
        assert expected in result.stdout
    return directory


def test_a_run_directory_contains_the_documented_files(run_dir: Path) -> None:
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "checkpoints", "model.safetensors", "status.json", "tensorboard"}
    assert names >= {"reconstructions.png", "samples.png", "latents.png", "curves.png"}
    assert json.loads((run_dir / "status.json").read_text())["state"] == "done"


def test_evaluate_prints_one_json_object(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(run_dir), "--num-samples", "8", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values.keys() >= {
        "elbo_nats",
        "nll_nats",
        "rate_nats",
        "distortion_nats",
        "bits_per_dim",
        "active_units",
    }
    assert values["elbo_nats"] == pytest.approx(-values["rate_nats"] - values["distortion_nats"], rel=1e-5)
    assert -values["nll_nats"] > values["elbo_nats"]


def test_evaluate_agrees_with_the_evaluation_after_training(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["evaluate", str(run_dir), "--json"])  # with the run's 4 samples
    trained = json.loads((run_dir / "evaluation.json").read_text())
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["num_samples"] == trained["num_samples"] == 4
    assert evaluated["nll_nats"] == pytest.approx(trained["nll_nats"], rel=1e-6)
    for options, row in (([], "4  (--train.final-samples of the run)"), (["--num-samples=2"], "2  (--num-samples)")):
        assert cli.main(["evaluate", str(run_dir), *options]) == 0
        assert re.search(rf"^num_samples +{re.escape(row)}$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("command", ["sample", "reconstruct"])
def test_sample_and_reconstruct_write_pictures(
    run_dir: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "picture.png"
    assert cli.main([command, str(run_dir), "--num", "12", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) >= 64
    assert pixels.std() > 10


def test_samples_depend_on_the_seed_only(run_dir: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        cli.main(["sample", str(run_dir), "--seed", seed, "--out", str(tmp_path / f"{name}.png")])
    contents = [np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc"]
    assert np.array_equal(contents[0], contents[1])
    assert not np.array_equal(contents[0], contents[2])


def test_encode_writes_posteriors_and_labels(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "latents.npz"  # its folder is created
    assert cli.main(["encode", str(run_dir), "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as latents:
        assert latents["mu"].shape == latents["logvar"].shape == (360, 3)
        assert set(latents["label"]) == set(range(10))


def test_decode_reads_the_output_of_encode(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latents, out = tmp_path / "z.npz", tmp_path / "new" / "x.npz"
    assert cli.main(["encode", str(run_dir), "--out", str(latents), "--device=cpu"]) == 0
    assert cli.main(["decode", str(run_dir), "--data", str(latents), "--out", str(out)]) == 0
    with np.load(out) as decoded, np.load(latents) as encoded:
        expected = fastvae.load(run_dir).decode(torch.from_numpy(encoded["mu"])).numpy()
        assert np.array_equal(decoded["examples"], expected)
        np.save(tmp_path / "z.npy", encoded["mu"][:5])
    assert cli.main(["decode", str(run_dir), "--data", str(tmp_path / "z.npy"), "--out", str(tmp_path / "x.png")]) == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert min(picture.size) > 10
    capsys.readouterr()


@pytest.mark.parametrize(
    ("latents", "expected"),
    [
        (np.zeros((4, 2)), "must have the model's latent shape [3], got [2]"),
        (np.zeros(3), "must contain mu or z, numbers [N, D], got float64 of shape [3]"),
        (np.full((2, 3), np.nan), "must contain finite latents"),
        (np.array([["a", "b", "c"]]), "must contain mu or z"),
        (b"no array", "cannot be read as a .npz or .npy file"),
    ],
)
def test_latents_that_cannot_be_decoded_are_refused(
    latents: np.ndarray | bytes, expected: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "z.npy"
    if isinstance(latents, bytes):
        path.write_bytes(latents)
    else:
        np.save(path, latents)
    assert cli.main(["decode", str(run_dir), "--data", str(path)]) == 2
    error = capsys.readouterr().err
    assert "pickle" not in error
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
@pytest.mark.parametrize(
    "command", ["sample", "reconstruct", "traverse", "evaluate", "encode --out=x.npz", "score --out=x.csv"]
)
def test_an_unavailable_device_is_refused(
    command: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *words = command.split()
    assert cli.main([name, str(run_dir), *words, "--device=cuda"]) == 2
    assert "PyTorch finds no GPU" in capsys.readouterr().err


def messages(stderr: str) -> list[str]:
    """The lines on stderr without the warning that the native library is not built."""
    return [line for line in stderr.splitlines() if not line.startswith("fastvae runs its reference")]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_invalid_value_is_a_one_line_error_in_every_encoding(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-m", "fastvae", "sample", "run", "--seed", "abc"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    (error,) = messages(done.stderr)
    assert re.fullmatch("fastvae: .*--seed: .*'abc'; see fastvae sample --help", error)


def test_a_closed_output_pipe_is_not_an_error() -> None:
    command = f"{sys.executable} -m fastvae recipes | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, messages(done.stderr)) in ((0, []), (141, []))
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "digit"], "'digit'; did you mean digits?"),
        (["train", "digits", "--train.stepz", "3"], "'--train.stepz'; did you mean --train.steps?"),
        (["train", "digits", "--train.learning-rate", "1"], "did you mean --train.lr?"),
        (["train", "digits", "--learning_rate=1"], "did you mean --train.lr?"),
        (["train", "digits", "--latent-dim=4"], "did you mean --model.latent-dim?"),
        (["train", "digits", "--lern.ema=.9"], "did you mean --train.ema?"),
        (["train", "digits", "--free-bit=.9"], "did you mean --train.objective.free-bits?"),
        (["trian", "digits"], "'trian'; did you mean train?"),
        (["evaluate", "here", "--num_sample", "3"], "'--num_sample'; did you mean --num-samples?"),
        (["evaluate", "nowhere"], "config.yaml"),
    ],
)
def test_unknown_names_are_one_line_errors(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--train.steps=0", r"train\.steps .*got 0"),
        ("--seed=-1", r"seed .*got -1"),
        ("--train.precision=fp8", r"'fp8'.*--train\.precision"),
        ("--train.lr=fast", r"--train\.lr.*'fast'"),
        ("--train.lr=nan", r"train\.lr .*got nan"),
        ("--lr=fast", r"--train\.lr.*'fast'"),
        ("--batch-size=0", r"train\.global_batch_size .*got 0"),
        ("--batch_size=0", r"train\.global_batch_size .*got 0"),
        ("--train.steps", r"'--train\.steps'"),
    ],
)
def test_invalid_values_are_one_line_errors(option: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "digits", option]) == 2
    error = capsys.readouterr().err
    assert re.search(expected, error)
    assert error.endswith("; see fastvae train digits --help\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [*cli.COMMANDS, "train digits", "submit", "outcome digits"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 200 or command in ("recipes", "doctor")


def test_the_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*cli.COMMANDS, *cli.RECIPE_COMMANDS))
    assert cli.main(["train", "--help"]) == 0
    assert "digits-linear" in capsys.readouterr().out


def test_aliases_set_the_options_that_they_abbreviate() -> None:
    words = ["--lr", "0.5", "--batch-size=7", "--beta", "0.25", "--train.steps=3"]
    config = parse_run("train", "digits", words)
    assert (config.train.lr, config.train.global_batch_size, config.train.objective.kl_weight) == (0.5, 7, 0.25)
    assert set(ALIASES.values()) <= {f"--{name}" for name in option_names(RunConfig)}


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastvae {fastvae.__version__}\n"


def test_documented_option_names_exist() -> None:
    names = set(option_names(RunConfig))
    train = "steps global-batch-size lr checkpoint-every eval-every accumulation precision device strategy ema".split()
    assert names >= {"run-dir", "seed", "model.latent-dim", "data.dir", "train.max-grad-norm"}
    assert names >= {f"train.{name}" for name in train}
