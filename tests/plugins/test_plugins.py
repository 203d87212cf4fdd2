"""A user's own kind, family, likelihood and task, named by ``--plugin`` and used by commands."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

import fastvae
from fastvae import cli, own_settings
from fastvae.plugins import loaded_plugins
from fastvae.settings import Settings, setting
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

ASK = """
import contextlib, io, json
from pathlib import Path
from fastvae import cli
answers = []
for words in json.loads(Path("ask.json").read_text()):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = cli.main(words)
        except SystemExit as ended:
            code = ended.code or 0
    answers.append((code, output.getvalue()))
Path("answers.json").write_text(json.dumps(answers))
"""


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

    def ask(self, *lines: str | list[str]) -> list[tuple[int, str]]:
        """The exit code and the output of several commands, run one after the other by one process."""
        words = [line.split() if isinstance(line, str) else line for line in lines]
        words = [each if "--plugin" in each else [*each, PLUGIN] for each in words]
        (self.path / "ask.json").write_text(json.dumps(words))
        script = self.path / "ask.py"
        script.write_text(ASK)
        process = self.program.start_script(script, folder=self.path, output=self.path / "ask.txt")
        assert process.wait() == 0, process.text()
        return [(code, text) for code, text in json.loads((self.path / "answers.json").read_text())]


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
    answers = folder.ask(
        "evaluate run --num-samples=1 --json",
        "sample run --num=3 --out=samples.npz",
        "score run --out=scores.csv --data=x.signals",
        "encode run --out=z.npz",
        "decode run --data=z.npz --out=decoded.csv",
        "reconstruct run",
        "interpolate run --first=0 --second=1",
        "traverse run",
        "export run --part=decoder --format=pt2 --to=decoder.pt2",
        "export run --to=weights.safetensors",
        "checkpoints run",
        "status run",
    )
    assert [code for code, _ in answers] == [0] * len(answers), answers
    evaluation = json.loads(answers[0][1].splitlines()[-1])
    assert evaluation["elbo_nats"] == pytest.approx(final["elbo_nats"], rel=1e-5)
    assert np.load(folder.path / "samples.npz")["examples"].shape == (3, 12)
    assert len((folder.path / "scores.csv").read_text().splitlines()) == 61


def test_two_processes_train_like_one(folder: Folder) -> None:
    folder.done("train", *WORDS, PLUGIN, "--run-dir=two", ranks=2)
    one, two = (metrics(folder.path / name, "train")[-1] for name in ("run", "two"))
    for name in ("loss_nats", "critic_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-4)


def test_the_page_has_a_complete_plugin(folder: Folder, tmp_path: Path) -> None:
    page = (launching.ROOT / "docs/plugins.md").read_text()
    (_, source), (_, commands) = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "my_plugin.py").write_text(source)
    shutil.copy(folder.path / "x.signals", tmp_path)
    train, *others = [line.removeprefix("fastvae ").split() for line in commands.splitlines()]
    short = ["--train.steps=3", "--train.global-batch-size=16", "--train.final-samples=1", "--train.device=cpu"]
    user = Folder(tmp_path, folder.program)
    user.done(*train, *short)
    answers = user.ask(*others)
    assert [code for code, _ in answers] == [0] * len(others), answers
    assert "nll_nats" in answers[0][1]
    assert len((tmp_path / "samples.csv").read_text().splitlines()[0].split(",")) == 14
    assert "--model.wide.width" in answers[-1][1]
    lines = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.glob("*.py")}
    numbers = [lines[f"{name}.py"] for name in ("kind", "family", "likelihood", "task", "__init__")]
    stated = page[page.index("`tests/plugins/my_package`") :]
    assert [sum(numbers), *numbers] == [int(each) for each in re.findall(r"\b\d+\b", stated)]


class Own(Settings):
    """Not a dataclass."""


@dataclass(frozen=True, kw_only=True)
class OwnConfig(Settings):
    """Settings of a plugin."""

    width: int = 3
    speed: int = setting(1, changes_result=False)


@dataclass(frozen=True)
class Required(Settings):
    """A field without a default."""

    width: int


def test_settings_of_a_plugin_are_a_nested_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_settings, "ADDED", {})
    plain = fastvae.ModelConfig(latent_dim=3)
    assert own_settings.extend(plain) is plain
    assert own_settings.own_settings(plain, OwnConfig) == OwnConfig()
    assert own_settings.add_settings(fastvae.ModelConfig, "my-own", OwnConfig) == "my_own"
    config = own_settings.with_settings(plain, OwnConfig(width=5))
    assert isinstance(config, fastvae.ModelConfig)
    assert (config.latent_dim, own_settings.own_settings(config, OwnConfig).width) == (3, 5)
    run = own_settings.extend(fastvae.recipes.find_recipe("digits"))
    assert own_settings.own_settings(run.model, OwnConfig) == OwnConfig()
    assert type(run) is own_settings.extended(fastvae.RunConfig) is own_settings.extended(type(run))
    for name, settings, rule in (
        ("my_own", OwnConfig, "must be a new identifier"),
        ("conv", OwnConfig, "must be a new identifier"),
        ("2d", OwnConfig, "must be a new identifier"),
        ("other", Own, "must be a frozen dataclass"),
        ("other", dict, "must be a frozen dataclass"),
        ("other", Required, "every field must have a default, width has none"),
    ):
        with pytest.raises(ValueError, match=rule):
            own_settings.add_settings(fastvae.ModelConfig, name, settings)
    with pytest.raises(ValueError, match="DataConfig has no settings of class OwnConfig"):
        own_settings.with_settings(fastvae.DataConfig(), OwnConfig())


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
    (code, text), (evaluated, warned) = user.ask([*longer[:-2], "--run-dir=run"], "evaluate run --num-samples=1")
    assert code == 2
    assert "was trained with other source files of plugin my_package (was " in text
    assert "choose another --run-dir" in text
    assert evaluated == 0
    assert warned.count("warning: run was trained with other source files of plugin my_package") == 1


def test_a_command_without_the_plugin_names_it_and_does_not_import_it(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.path)
    other = ["train", "digits", "--run-dir=run", "--train.device=cpu"]
    for words in (["evaluate", "run"], ["sample", "run"], ["train", *WORDS, "--run-dir=run"], other):
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


def test_the_command_line_has_the_options_of_the_plugin(folder: Folder) -> None:
    refused = {
        "--model.smooth.window=3": "--model.smooth.window is for family smooth, and this run has network mlp",
        "--train.critic.weight=3": "--train.critic.weight is for task critic, and this run has task elbo",
        "--data.signals.length=3": "--data.signals.length is for signals data",
        "--train.task=critic": "train.task: family vae is trained by elbo, got critic",
        "--train.task=critik": "no task is named 'critik'; did you mean critic?",
        "--data.signals.lenght=3": "did you mean --data.signals.length?",
    }
    (_, shown), (_, everything), (code, script), *answers = folder.ask(
        ["train", *WORDS, "--data.name=signals", "--help"],
        "train digits --help-all",
        ["submit", *WORDS, "--dry-run"],
        *(f"train digits {option}" for option in refused),
    )
    assert "--model.smooth.window" in shown
    assert "--data.signals.length" in shown
    assert "--train.task {elbo}" in everything
    assert code == 0
    assert f"set -- digits {' '.join(WORDS[1:])} --plugin=my_package" in script
    for (code, text), expected in zip(answers, refused.values(), strict=True):
        assert (code, expected in text) == (2, True), text


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
