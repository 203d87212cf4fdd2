"""Heavy packages are imported only when they are used; tested by `sys.modules` in new processes, not by timing."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import fastvae
from tests.source_tree import PACKAGE, source_files

HEAVY = ["torch", "sklearn", "scipy", "matplotlib", "tensorboard", "torch.distributed.checkpoint"]
LAZY = sorted(
    file.name
    for file in source_files()
    if file.name.endswith("__init__.py") and "lazy_names(" in ast.unparse(file.tree)
)


def heavy_after(code: str, directory: Path | None = None) -> list[str]:
    """The heavy packages that are imported in a new process after it has run some code."""
    script = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def command(*words: str) -> str:
    """Code that runs a command line, which may raise SystemExit."""
    return f"from fastvae import cli\ntry: cli.main({list(words)})\nexcept SystemExit: pass"


def test_the_package_and_quick_commands_do_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "status.json").write_text('{"state": "done", "step": 3}')
    quick = [["--help"], ["--version"], ["recipes"], ["status"], ["status", "runs/digits"], ["train", "--help"]]
    code = ["import fastvae", "fastvae.__version__", "dir(fastvae)", *(command(*words) for words in quick)]
    code += [command("train", "digits", "--help"), command("sample", "--help"), command("train", "digits", "--lrr=1")]
    code += ["from fastvae.recipes import RECIPES", "from fastvae.data import kind_of, kind_options", "kind_options()"]
    code += ["assert all(kind_of(recipe().data) for recipe in RECIPES.values())"]
    assert heavy_after("\n".join(code), tmp_path) == []


def test_public_names_import_torch_but_no_other_heavy_package() -> None:
    names = ["VAE", "noise_key", "DiagonalGaussian", "Gaussian", "elbo", "build_data", "load"]
    submodules = ["ops.gaussian_rsample_kl", "data.Loader", "models.VAE", "nn.MLP", "figures"]
    assert heavy_after("import fastvae\n" + "\n".join(f"fastvae.{name}" for name in names + submodules)) == ["torch"]
    assert "torch.distributed.checkpoint" in heavy_after("from fastvae import *\nassert VAE and train.train")


def test_data_sets_import_only_the_packages_that_read_them() -> None:
    numbers = "import torch, fastvae\nfrom fastvae.data import as_data\nas_data(torch.rand(40, 3))"
    assert heavy_after(numbers) == ["torch"]
    digits = "import fastvae\nfastvae.build_data(fastvae.DataConfig(name='digits'))"
    assert heavy_after(digits) == ["torch", "sklearn", "scipy"]


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_and_python_see_the_same_names(name: str) -> None:
    """A lazy package lists the modules of its names twice; the lists agree and all names exist."""
    tree = ast.parse((PACKAGE / name).read_text())
    package = ".".join(["fastvae", *name.split("/")[:-1]])
    module = import_module(package)
    checked = {}
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for node in (each for block in blocks for each in block.body):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fastvae."):
            home = str(node.module).removeprefix(f"{package}.")
            checked |= {alias.name: home for alias in node.names}
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names")
    homes: dict[str, Any] = ast.literal_eval(call.args[1])
    lazy = {name: home for home, names in homes.items() for name in names}
    if package == "fastvae":
        checked.pop("train")  # at run time it is the package, which is callable
    assert lazy == checked
    modules = {path.stem for path in (PACKAGE / name).parent.glob("*") if path.suffix in ("", ".py")}
    assert not set(lazy) & modules, "importing the module would overwrite the name"
    for each in getattr(module, "__all__", []):
        assert getattr(module, each) is not None
        assert each in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        _ = module.no_such_name


def test_the_function_train_does_not_hide_its_package() -> None:
    import fastvae.train as package
    from fastvae import train
    from fastvae.train import trainer

    assert package is train is fastvae.train is sys.modules["fastvae.train"]
    assert package.TrainConfig is fastvae.TrainConfig
    assert callable(train)
    assert inspect.signature(train) == inspect.signature(trainer.train)


def test_calling_the_package_trains(tmp_path: Path) -> None:
    import torch

    model = fastvae.VAE(fastvae.MLPEncoder(4, 8, 2), fastvae.MLPDecoder(2, 8, 4), fastvae.Gaussian())
    config = fastvae.TrainConfig(steps=2, global_batch_size=8, final_samples=1)
    run = fastvae.train(model, torch.rand(20, 4), config, run_dir=tmp_path / "run")
    assert run.status == "done"
