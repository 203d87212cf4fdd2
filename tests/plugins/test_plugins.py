"""A user's own kind, family, likelihood and task, named by ``--plugin`` and used by commands."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

import fastvae
from fastvae import cli
from fastvae.plugins import loaded_plugins
from tests import launching
from tests.faults.program import Program
from tests.runs import free_port, metrics

PACKAGE = Path(__file__).with_name("my_package")
PLUGIN = "--plugin=my_package"
WORDS = [
    "digits",
    "--data.path=x.signals",
    "--data.signals.length=12",
    "--model.family=smooth",
    "--model.smooth.window=5",
    "--model.likelihood=laplace",
    "--model.hidden-dim=8",
    "--model.latent-dim=2",
    "--train.task=critic",
    "--train.critic.weight=0.2",
    "--train.steps=6",
    "--train.global-batch-size=16",
    "--train.final-samples=1",
    "--train.log-every=1",
    "--train.device=cpu",
]


@dataclass(frozen=True)
class Folder:
    """A user's folder: the package and a file of signals."""

    path: Path
    program: Program

    def run(self, *words: str, ranks: int = 1) -> tuple[int, str]:
        """The exit code and the output of ``fastvae WORDS``; of several processes the largest code."""
        port = str(free_port())
        processes = []
        for rank in range(ranks):
            world = {"WORLD_SIZE": str(ranks), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            place = {**world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if ranks > 1 else {}
            output = self.path / f"output-{len(os.listdir(self.path))}-{rank}.txt"
            processes.append(self.program.start(*words, output=output, folder=self.path, **place))
        codes = [process.wait() for process in processes]
        return max(codes), "".join(process.text() for process in processes)

    def done(self, *words: str, ranks: int = 1) -> str:
        """The output of a command that must succeed."""
        code, text = self.run(*words, ranks=ranks)
        assert code == 0, text
        return text


def prepare(path: Path) -> None:
    shutil.copytree(PACKAGE, path / "my_package")
    rows = ([f"{math.sin(0.3 * t + i) * (1 + i % 3):.4f}" for t in range(14)] for i in range(60))
    (path / "x.signals").write_text("\n".join(map(" ".join, rows)) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Folder:
    """A folder with a run that was trained by a command."""
    path = tmp_path_factory.mktemp("user")
    prepare(path)
    folder = Folder(path, program)
    folder.done("train", *WORDS, PLUGIN, "--run-dir=run")
    return folder


def test_a_run_records_its_plugin_and_the_settings_of_its_parts(folder: Folder) -> None:
    config = yaml.safe_load((folder.path / "run/config.yaml").read_text())
    assert (config["model"]["smooth"], config["data"]["signals"]) == ({"window": 5}, {"length": 12})
    assert (config["train"]["task"], config["train"]["critic"]) == ("critic", {"hidden_dim": 16, "weight": 0.2})
    plugins = json.loads((folder.path / "run/run.json").read_text())["plugins"]
    assert {name: len(digest) for name, digest in plugins.items()} == {"my_package": 64}
    last = metrics(folder.path / "run", "train")[-1]
    assert {"loss_nats", "critic_loss", "critic_grad_norm"} <= set(last)
    assert loaded_plugins() == {}  # of this process


def test_commands_use_a_run_with_plugins(folder: Folder) -> None:
    final = json.loads((folder.path / "run/evaluation.json").read_text())
    text = folder.done("evaluate", "run", "--num-samples=1", "--json", "--plugin", "my_package")
    assert json.loads(text.splitlines()[-1])["elbo_nats"] == pytest.approx(final["elbo_nats"], rel=1e-5)
    folder.done("sample", "run", "--num=3", "--out=samples.npz", PLUGIN)
    assert np.load(folder.path / "samples.npz")["examples"].shape == (3, 12)
    script = folder.path / "commands.py"
    script.write_text(
        "from fastvae import cli, load\n"
        "for words in ('score run --out s.csv --data x.signals', 'encode run --out z.npz', 'reconstruct run',\n"
        "              'decode run --data z.npz --out d.csv', 'interpolate run 0 1', 'traverse run',\n"
        "              'export run --part decoder --format pt2 --to d.pt2', 'checkpoints run', 'status run'):\n"
        "    assert cli.main([*words.split(), '--plugin', 'my_package']) == 0, words\n"
        "assert load('run', plugins=('my_package',)).config.model.smooth.window == 5\n"
    )
    process = folder.program.start_script(script, folder=folder.path, output=folder.path / "commands.txt")
    assert process.wait() == 0, process.text()
    assert len((folder.path / "s.csv").read_text().splitlines()) == 61


def test_two_processes_train_like_one(folder: Folder) -> None:
    folder.done("train", *WORDS, PLUGIN, "--run-dir=two", ranks=2)
    one, two = (metrics(folder.path / name, "train")[-1] for name in ("run", "two"))
    for name in ("loss_nats", "critic_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-4)


@pytest.mark.slow
def test_torchrun_trains_with_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    launching.fastvae("train", *WORDS, PLUGIN, "--run-dir=run", num_processes=2)
    assert (tmp_path / "run/model.safetensors").exists()


def test_a_stopped_run_resumes_with_the_same_plugin_only(folder: Folder, tmp_path: Path) -> None:
    user = Folder(tmp_path / "user", folder.program)
    shutil.copytree(folder.path, user.path)
    longer = ["train", *WORDS, "--train.steps=8", PLUGIN, "--run-dir=run"]
    user.done(*longer)
    assert metrics(user.path / "run", "train")[-1]["step"] == 8
    with (user.path / "my_package/family.py").open("a") as file:
        file.write("# changed\n")
    code, text = user.run(*longer)
    assert code == 2
    assert "was trained with other source files of plugin my_package (was " in text
    assert "choose another --run-dir" in text
    text = user.done("evaluate", "run", PLUGIN)
    assert text.count("warning: run was trained with other source files of plugin my_package") == 1
    code, text = user.run("train", "digits", "--run-dir=run", "--train.device=cpu")
    assert code == 2
    assert "run was trained with plugin my_package; if you trust its code, add --plugin my_package" in text


def test_a_command_without_the_plugin_names_it_and_does_not_import_it(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.path)
    for words in (["evaluate", "run"], ["sample", "run"], ["train", *WORDS, "--run-dir=run"]):
        assert cli.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "run was trained with plugin my_package" in line
        assert "add --plugin my_package" in line
    with pytest.raises(ValueError, match=r"plugins=\('my_package',\)"):
        fastvae.load("run")
    assert "my_package" not in sys.modules


@pytest.mark.parametrize("plugins", [3, ["my_package"], {"my_package": 3}])
def test_a_damaged_list_of_plugins_is_refused(folder: Folder, tmp_path: Path, plugins: object) -> None:
    shutil.copytree(folder.path / "run", tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "plugins": plugins}))
    with pytest.raises(ValueError, match=r"run\.json must list plugins"):
        fastvae.load(tmp_path / "run")


def test_help_and_suggestions_include_the_plugin(folder: Folder) -> None:
    text = folder.done("train", *WORDS, "--data.name=signals", PLUGIN, "--help")
    assert "--model.smooth.window" in text
    assert "--data.signals.length" in text
    everything = folder.done("train", "digits", PLUGIN, "--help-all")
    assert "--train.task {elbo}" in everything
    code, text = folder.run("train", *WORDS, PLUGIN, "--model.smooth.windw=3")
    assert (code, "did you mean --model.smooth.window?" in text) == (2, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--model.smooth.window=3", "--model.smooth.window is for family smooth, and this run has network mlp"),
        ("--train.critic.weight=3", "--train.critic.weight is for task critic, and this run has task elbo"),
        ("--data.signals.length=3", "--data.signals.length is for signals data"),
        ("--train.task=critic", "train.task: family vae is trained by elbo, got critic"),
        ("--train.task=critik", "no task is named 'critik'; did you mean critic?"),
    ],
)
def test_options_of_other_parts_are_refused(folder: Folder, words: str, expected: str) -> None:
    code, text = folder.run("train", "digits", PLUGIN, words)
    assert (code, expected in text) == (2, True), text


def test_jobs_and_other_processes_get_the_plugin(folder: Folder) -> None:
    text = folder.done("submit", *WORDS, PLUGIN, "--dry-run")
    assert f"set -- digits {' '.join(WORDS[1:])} --plugin=my_package" in text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            None,
            "plugin broken cannot be imported: ModuleNotFoundError: No module named 'broken'; searched {folder} and",
        ),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero ({folder}/broken.py, line 1)"),
        ("import nothing_such\n", "No module named 'nothing_such' ({folder}/broken.py, line 1)"),
        ("def f(:\n", "SyntaxError: invalid syntax (broken.py, line 1)"),
        (
            "from fastvae.models import FAMILIES, register_family\n\nregister_family(FAMILIES['vae'])\n",
            "ValueError: register_family: the name 'vae' is taken; choose another one ({folder}/broken.py, line 3)",
        ),
        (
            "from fastvae.train import register_task\nregister_task('elbo', None)\n",
            "register_task: the name 'elbo' is taken",
        ),
        (
            "from fastvae.settings import Settings\nfrom fastvae.train import register_task\n"
            "register_task('steps', None, config=Settings)\n",
            "TrainConfig with settings of 'steps': its field 'steps' must be a new identifier",
        ),
    ],
)
def test_a_plugin_that_fails_is_one_line(
    source: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    if source is not None:
        (tmp_path / "broken.py").write_text(source)
    assert cli.main(["recipes", "--plugin", "broken"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason.format(folder=tmp_path) in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--plugin", "--plugin: must name a module"),
        ("--plugin --json", "--plugin: must name a module"),
        ("--plugin=", "--plugin: must name a module"),
        ("--plugin my/package.py", "must be the name of a module, such as my_package, got 'my/package.py'"),
    ],
)
def test_values_that_name_no_module_are_refused(
    words: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["recipes", *words.split()]) == 2
    assert expected in capsys.readouterr().err
