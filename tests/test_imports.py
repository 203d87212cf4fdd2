"""The package's levels: a file may import only from lower levels and from its own package."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.source_tree import PACKAGE, SourceFile, called_name, imported_modules, source_files

LEVELS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    {"recipes"},
    {"applications", "sklearn"},
    {"verify", "run", "cluster", "doctor"},
    {"train"},
    {"evaluate", "figures"},
    {"models", "objective", "data", "distributed"},
    {"generative"},
    {"nn", "distributions", "likelihoods", "records", "bench"},
    {"ops"},
    {"model_inputs", "own_settings", "durations"},
    {"settings", "plugins", "lazy", "_version"},
)
DEPTH = {unit: depth for depth, units in enumerate(LEVELS) for unit in units}
# Files that import modules by computed names or use sys.modules, with the reason.
DYNAMIC = {
    "lazy.py": "imports public names on first use",
    "plugins.py": "imports the modules that a user names by --plugin",
    "run/user_file.py": "imports the file that the command line names",
    "train/run_dir/notebook.py": "finds out whether a notebook has imported IPython",
    "train/__init__.py": "makes the package callable, so that the function with its name does not hide it",
}


def wrong_arrows(package: Path) -> list[str]:
    """Descriptions of all imports in the package from the same or a higher level."""
    wrong = []
    for file in source_files(package):
        if file.unit == "__init__":  # re-exports public names
            continue
        if file.unit not in DEPTH:
            wrong.append(f"{file.unit} has no level: assign one in LEVELS")
            continue
        for module in imported_modules(file):
            first, _, rest = module.partition(".")
            unit = rest.split(".")[0]
            if first != "fastvae" or unit in (file.unit, "__version__"):
                continue
            if unit not in DEPTH:
                wrong.append(f"{file.name} imports {module}: fastvae itself is the highest level")
            elif DEPTH[unit] <= DEPTH[file.unit]:
                direction = "sideways" if DEPTH[unit] == DEPTH[file.unit] else "up"
                wrong.append(f"{file.name} imports {module}: {direction}")
    return wrong


def dynamic_imports(file: SourceFile) -> Iterator[str]:
    """Yield the places where a file calls `import_module` or `__import__` or reads `sys.modules`."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__"):
            yield f"{file.name}:{node.lineno} calls {called_name(node)}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.modules":
            yield f"{file.name}:{node.lineno} reads sys.modules"
        elif isinstance(node, ast.ImportFrom) and node.module == "sys":
            yield from (f"{file.name}:{node.lineno} reads sys.modules" for a in node.names if a.name == "modules")


def import_cycle(package: Path) -> list[str]:
    """Modules of one package that form an import cycle, or []. Imports inside functions count."""
    files = source_files(package)
    known = {file.module for file in files}
    graph = {file.module: {_module_of(name, known) for name in imported_modules(file)} for file in files}
    inside = {
        module: {each for each in imports if each and each != module and each.split(".")[1:2] == module.split(".")[1:2]}
        for module, imports in graph.items()
    }
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _module_of(name: str, known: set[str]) -> str | None:
    """The module that `from x import y` imports: x.y if it is a module, else x; None if it is outside the package."""
    return name if name in known else parent if (parent := name.rpartition(".")[0]) in known else None


def test_imports_only_point_to_lower_levels() -> None:
    assert wrong_arrows(PACKAGE) == []


def test_only_listed_files_import_by_name_or_use_sys_modules() -> None:
    found = {file.name: list(dynamic_imports(file)) for file in source_files()}
    assert [line for name, lines in found.items() if name not in DYNAMIC for line in lines] == []
    assert [name for name in DYNAMIC if not found.get(name)] == [], "these files no longer need an exception"


def test_no_package_has_an_import_cycle() -> None:
    assert import_cycle(PACKAGE) == []


def test_imported_modules_resolves_names_in_packages() -> None:
    seen = {module for file in source_files() for module in imported_modules(file)}
    assert "fastvae.ops.noise_key" in seen  # from fastvae.ops import noise_key


def test_every_imported_package_is_declared() -> None:
    requirements = importlib.metadata.requires("fastvae") or []
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in requirements}
    seen = {module.split(".")[0] for file in source_files() for module in imported_modules(file)}
    # Python 3.10 does not find the distribution of a package without top_level.txt.
    providers = {"sklearn": ["scikit-learn"], **importlib.metadata.packages_distributions()}
    foreign = seen - set(sys.stdlib_module_names) - {"fastvae", "IPython"}  # which exists in notebooks only
    undeclared = {
        name
        for name in foreign
        if not {found.lower().replace("_", "-") for found in providers.get(name, [name])} & declared
    }
    assert undeclared == set(), "add them to pyproject.toml and constraints.txt, then run make setup"


def test_records_import_nothing_from_the_package() -> None:
    (records,) = (file for file in source_files() if file.name == "records.py")
    assert not [name for name in imported_modules(records) if name.startswith("fastvae")]


def test_only_one_module_loads_the_native_library() -> None:
    loaders = [file.name for file in source_files() if "load_library(" in (PACKAGE / file.name).read_text()]
    assert loaders == ["ops/_native.py"]


def planted(package: Path, file: str, text: str) -> Path:
    """Add a file to a package."""
    path = package / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return package


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("ops/noise.py", "from fastvae.nn import MLP", "ops/noise.py imports fastvae.nn.MLP: up"),
        ("models/vae.py", "import fastvae.data.loader", "models/vae.py imports fastvae.data.loader: sideways"),
        ("models/vae.py", "from ..data import loader", "models/vae.py imports fastvae.data.loader: sideways"),
        ("models/vae.py", "from .. import data", "models/vae.py imports fastvae.data: sideways"),
        ("models/vae.py", "import_module('fastvae.data')", "models/vae.py imports fastvae.data: sideways"),
        ("models/vae.py", "__import__('fastvae.run.config')", "models/vae.py imports fastvae.run.config: up"),
        ("bench/harness.py", "from fastvae.train import train", "bench/harness.py imports fastvae.train.train: up"),
        ("train/step.py", "def f():\n    from fastvae import run", "train/step.py imports fastvae.run: up"),
        ("nn/mlp.py", "import fastvae", "nn/mlp.py imports fastvae: fastvae itself is the highest level"),
        ("nn/mlp.py", "from fastvae import VAE", "nn/mlp.py imports fastvae.VAE: fastvae itself is the highest level"),
        ("helper.py", "", "helper has no level: assign one in LEVELS"),
    ],
)
def test_an_import_from_the_same_or_a_higher_level_is_found(
    tmp_path: Path, file: str, line: str, complaint: str
) -> None:
    assert wrong_arrows(planted(tmp_path, file, line)) == [complaint]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("models/vae.py", "from fastvae.models.config import ModelConfig"),
        ("models/vae.py", "from . import config"),
        ("models/vae.py", "from ..ops import stream"),
        ("cli.py", "from fastvae import run"),
        ("cli.py", "from fastvae import __version__"),
        ("__init__.py", "from fastvae.cli import main"),
        ("ops/_native.py", "import torch, json"),
    ],
)
def test_an_import_from_a_lower_level_is_allowed(tmp_path: Path, file: str, line: str) -> None:
    assert wrong_arrows(planted(tmp_path, file, line)) == []


@pytest.mark.parametrize(
    "line", ["importlib.import_module(name)", "__import__(name)", "sys.modules['x']", "from sys import modules"]
)
def test_an_import_by_name_is_found(tmp_path: Path, line: str) -> None:
    (file,) = source_files(planted(tmp_path, "models/vae.py", line))
    assert len(list(dynamic_imports(file))) == 1


def test_an_import_cycle_is_found(tmp_path: Path) -> None:
    planted(tmp_path, "models/a.py", "from fastvae.models import b")
    planted(tmp_path, "models/b.py", "def f():\n    from .c import g")
    assert import_cycle(tmp_path) == []
    planted(tmp_path, "models/c.py", "import fastvae.models.a")
    assert set(import_cycle(tmp_path)) == {f"fastvae.models.{name}" for name in "abc"}
