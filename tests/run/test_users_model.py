"""A run of a user's model: loaded into the user's module, or by a file that the command names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fastvae
from fastvae import cli
from fastvae.run import LoadedRun, export_program
from fastvae.train.run_dir.run_dir import RunDir
from tests import runs

# What torch.export itself uses.

IMAGES = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))

FILE = """
import torch
from dataclasses import dataclass
from torch import nn
import fastvae
from sizes import LATENT

@dataclass
class Sizes:
    hidden: "int" = 8

def build():
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    encoder = fastvae.MLPEncoder(16, Sizes().hidden, LATENT)
    model = fastvae.VAE(encoder, fastvae.MLPDecoder(LATENT, 8, 16), fastvae.Gaussian())
    return model, images, fastvae.TrainConfig(steps=9, global_batch_size=8, final_samples=1, log_every=3)

def wrong():
    return fastvae.MLPEncoder(16, 8, 2)
"""


class Encoder(nn.Module):
    """An encoder that does not state its latent dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.layer(x.flatten(1)).chunk(2, dim=1)


def vae(hidden: int = 8) -> fastvae.VAE:
    return fastvae.VAE(Encoder(), fastvae.MLPDecoder(3, hidden, 16), fastvae.Gaussian())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> fastvae.Run:
    return runs.train(tmp_path_factory.mktemp("users") / "run", vae(), IMAGES, steps=5)


@pytest.fixture
def loaded(finished: fastvae.Run) -> LoadedRun:
    return fastvae.load(finished.directory, model=vae(), data=IMAGES)


def test_the_weights_return_to_the_users_module(finished: fastvae.Run, loaded: LoadedRun) -> None:
    assert finished.evaluation is not None
    assert loaded.evaluate().elbo_nats == pytest.approx(finished.evaluation.elbo_nats)
    trained = finished.model.state_dict()
    assert all(torch.equal(trained[name], tensor) for name, tensor in loaded.model.state_dict().items())
    assert not loaded.model.training


def test_every_method_works_on_the_loaded_run(loaded: LoadedRun, tmp_path: Path) -> None:
    assert loaded.sample(3).shape == (3, 16)
    assert loaded.encode()["mu"].shape == (4, 3)
    assert loaded.interpolate(0, 1, steps=4).shape == (4, 16)
    assert loaded.traverse(2, steps=3).examples.shape == (2, 3, 16)
    assert loaded.score().shape == (4,)
    np.save(tmp_path / "others.npy", IMAGES[:7].numpy())
    assert loaded.score(tmp_path / "others.npy").shape == (7,)
    found = export_program(loaded, "encoder").exported.module()(x=IMAGES[:4], key=None, condition=None)
    torch.testing.assert_close(found[0], loaded.model.encode(IMAGES[:4]).mu)  # type: ignore[operator]
    assert export_program(loaded, "decoder").inputs == ("z",)


def test_without_data_the_run_generates(finished: fastvae.Run, loaded: LoadedRun, tmp_path: Path) -> None:
    model = fastvae.VAE(Encoder(), fastvae.MLPDecoder(3, 8, 16), fastvae.Gaussian(), latent_dim=3)
    run = fastvae.load(finished.directory, model=model)
    assert torch.equal(run.sample(3), loaded.sample(3))
    np.save(tmp_path / "others.npy", IMAGES[:7].numpy())
    assert run.score(tmp_path / "others.npy").shape == (7,)
    with pytest.raises(ValueError, match=r"were given from Python, .*fastvae.load\(\.\.\., model=, data=\)"):
        run.score()


def test_another_model_or_other_data_are_refused(finished: fastvae.Run) -> None:
    with pytest.raises(ValueError, match=r"the model must have the structure of the run's: was .*\[8, 3\], now"):
        fastvae.load(finished.directory, model=vae(9), data=IMAGES)
    with pytest.raises(ValueError, match=r"the data must be those of the run .*train examples: have other values"):
        fastvae.load(finished.directory, model=vae(), data=IMAGES + 1)
    with pytest.raises(ValueError, match="give the model too"):
        fastvae.load(finished.directory, data=IMAGES)
    with pytest.raises(ValueError, match=r"fastvae.load\(.*model=\.\.\., data=\.\.\.\), or add --module"):
        fastvae.load(finished.directory)


@pytest.fixture(scope="module")
def file_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("file")
    (folder / "my_module.py").write_text(FILE)
    (folder / "sizes.py").write_text("LATENT = 3\n")
    target = f"{folder / 'my_module.py'}:build"
    options = ["--train.steps=4", "--lr", "1e-2", "--seed=3", f"--run-dir={folder / 'run'}"]
    assert cli.main(["train", target, *options]) == 0
    return target, folder / "run"


def test_a_users_file_trains_with_the_options_of_the_command_line(file_run: tuple[str, Path]) -> None:
    run_dir = file_run[1]
    config = RunDir(run_dir).config.read_text()
    for line in ("steps: 4", "lr: 0.01", "global_batch_size: 8", "seed: 3", "function: build", "file: /", "sha256: "):
        assert line in config
    assert [record["step"] for record in runs.metrics(run_dir, "train")] == [1, 3, 4]
    assert json.loads(RunDir(run_dir).record.read_text())["model"]


def test_later_commands_need_the_module(
    file_run: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, run_dir = file_run
    assert cli.main(["sample", str(run_dir)]) == 2
    assert f"add --module {target}" in capsys.readouterr().err
    commands = {
        "samples.png": ["sample", "--num=4"],
        "z.npz": ["encode"],
        "scores.csv": ["score"],
        "line.png": ["interpolate", "--first=0", "--second=1"],
        "rows.png": ["traverse", "--dimensions=1"],
        "encoder.safetensors": ["export", "--part=encoder"],
    }
    for name, (command, *options) in commands.items():
        to = "--to" if command == "export" else "--out"
        words = [command, str(run_dir), *options, f"{to}={tmp_path / name}", "--module", target]
        assert cli.main(words) == 0, capsys.readouterr().err
        assert (tmp_path / name).is_file()
    assert cli.main(["evaluate", str(run_dir), "--num-samples=1", "--module", target]) == 0
    assert "elbo_nats" in capsys.readouterr().out


def test_a_changed_file_does_not_continue_the_run(
    file_run: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = file_run[1]
    folder = Path(shutil.copytree(run_dir.parent, tmp_path / "moved"))
    moved = f"{folder / 'my_module.py'}:build"
    words = ["train", moved, "--train.steps=6", "--lr", "1e-2", "--seed=3", f"--run-dir={folder / 'run'}"]
    assert cli.main(words) == 0
    assert "from the checkpoint of step 4" in capsys.readouterr().err
    with (folder / "my_module.py").open("a") as file:
        file.write("# changed\n")
    assert cli.main(words) == 2
    assert "module.sha256 was" in capsys.readouterr().err
    assert cli.main(["evaluate", str(folder / "run"), "--num-samples=1", f"--module={moved}"]) == 0
    assert "my_module.py has changed since the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.latent-dim=3"], "--model.latent-dim=3: .*my_module.py:build builds model and data"),
        (["--train.stepz=3"], "did you mean --train.steps"),
        (["--seed=-1"], "seed must be in"),
    ],
)
def test_wrong_options_are_named(
    file_run: tuple[str, Path], options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", file_run[0], *options]) == 2
    assert re.search(words, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("wrong", r"wrong must return \(model, data\) .*got MLPEncoder"),
        ("other", r"must define the function other, found: .*build"),
        ("a-b", "must be given as FILE.py:FUNCTION"),
    ],
)
def test_wrong_functions_are_named(
    file_run: tuple[str, Path], function: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", file_run[0].replace(":build", f":{function}")]) == 2
    assert re.search(words, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('def build():\n    return int("abc")\n', "ValueError: invalid literal .*own.py, line 2"),
        ("import no_such_package\n", "ModuleNotFoundError: .*no_such_package.*own.py, line 1"),
        ("def build(:\n", "SyntaxError: .*line 1"),
    ],
)
def test_an_error_in_the_file_is_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    (tmp_path / "own.py").write_text(content)
    assert cli.main(["train", f"{tmp_path / 'own.py'}:build", f"--run-dir={tmp_path / 'run'}"]) == 2
    printed = capsys.readouterr().err.strip()
    assert "\n" not in printed
    assert re.search(rf"own.py:build raised {words}", printed), printed


def test_a_batch_job_and_its_outcome_take_a_users_file(
    file_run: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    target, run_dir = file_run
    assert cli.main(["submit", target, "--dry-run", "--train.steps=4", f"--run-dir={run_dir}"]) == 0
    script = capsys.readouterr().out
    assert "--job-name=fastvae-my_module\n" in script
    assert f"{target} --train.steps=4" in script
    assert cli.main(["outcome", target, f"--run-dir={run_dir}"]) == 0
    assert "done" in capsys.readouterr().out
