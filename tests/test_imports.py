"""The levels of the house: a file imports what is below its level, or its own package's files; never sideways or up."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fastvae"
LEVELS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    {"recipes"},
    {"applications"},
    {"verify", "run", "cluster", "bench", "doctor"},
    {"train"},
    {"evaluate", "figures"},
    {"models", "objective", "data", "distributed"},
    {"nn", "distributions", "likelihoods", "records"},
    {"ops"},
    {"settings"},
    {"_C"},
)
DEPTH = {unit: depth for depth, units in enumerate(LEVELS) for unit in units}


def imported_modules(path: Path, package: Path) -> Iterator[str]:
    """The dotted names of what a file imports, relative ones resolved, and of what `from x import y` may load."""
    parents = ["fastvae", *path.relative_to(package).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def wrong_arrows(package: Path) -> list[str]:
    """Every import of the package that points up or sideways, as a sentence."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).with_suffix("").parts[0]
        if own == "__init__":  # the list of public names
            continue
        if own not in DEPTH:
            wrong.append(f"{own} has no level: give it one in design.md and here")
            continue
        for module in imported_modules(path, package):
            first, _, rest = module.partition(".")
            unit = rest.split(".")[0]
            if first != "fastvae" or unit == own:
                continue
            if unit not in DEPTH:
                wrong.append(f"{path.relative_to(package)} imports {module}: fastvae itself is above everything")
            elif DEPTH[unit] <= DEPTH[own]:
                direction = "sideways" if DEPTH[unit] == DEPTH[own] else "up"
                wrong.append(f"{path.relative_to(package)} imports {module}: {direction}")
    return wrong


def test_no_arrow_points_up_or_sideways() -> None:
    assert wrong_arrows(PACKAGE) == []


def test_the_test_sees_the_package() -> None:
    seen = {module for path in PACKAGE.rglob("*.py") for module in imported_modules(path, PACKAGE)}
    assert "fastvae.ops.noise_key" in seen  # from fastvae.ops import noise_key


def test_every_imported_package_is_declared() -> None:
    requirements = importlib.metadata.requires("fastvae") or []
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in requirements}
    seen = {module.split(".")[0] for path in PACKAGE.rglob("*.py") for module in imported_modules(path, PACKAGE)}
    # Python 3.10 does not find the distribution of a package that lists no top level.
    providers = {"sklearn": ["scikit-learn"], **importlib.metadata.packages_distributions()}
    foreign = seen - set(sys.stdlib_module_names) - {"fastvae"}
    undeclared = {
        name
        for name in foreign
        if not {found.lower().replace("_", "-") for found in providers.get(name, [name])} & declared
    }
    assert undeclared == set(), "add them to pyproject.toml and constraints.txt, then run make setup"


def test_records_depend_on_nothing() -> None:
    assert not [name for name in imported_modules(PACKAGE / "records.py", PACKAGE) if name.startswith("fastvae")]


def test_only_one_file_loads_the_native_library() -> None:
    loaders = [path for path in PACKAGE.rglob("*.py") if "fastvae._C" in imported_modules(path, PACKAGE)]
    loaders += [path for path in PACKAGE.rglob("*.py") if 'import_module("fastvae._C")' in path.read_text()]
    assert [str(path.relative_to(PACKAGE)) for path in loaders] == ["ops/_native.py"]


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("ops/noise.py", "from fastvae.nn import MLP", "ops/noise.py imports fastvae.nn.MLP: up"),
        ("models/vae.py", "import fastvae.data.loader", "models/vae.py imports fastvae.data.loader: sideways"),
        ("models/vae.py", "from ..data import loader", "models/vae.py imports fastvae.data.loader: sideways"),
        ("models/vae.py", "from .. import data", "models/vae.py imports fastvae.data: sideways"),
        ("train/step.py", "def f():\n    from fastvae import run", "train/step.py imports fastvae.run: up"),
        ("nn/mlp.py", "import fastvae", "nn/mlp.py imports fastvae: fastvae itself is above everything"),
        ("nn/mlp.py", "from fastvae import VAE", "nn/mlp.py imports fastvae.VAE: fastvae itself is above everything"),
        ("helper.py", "", "helper has no level: give it one in design.md and here"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(line)
    assert wrong_arrows(tmp_path) == [complaint]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("models/vae.py", "from fastvae.models.config import ModelConfig"),
        ("models/vae.py", "from . import config"),
        ("models/vae.py", "from ..ops import stream"),
        ("cli.py", "from fastvae import run"),
        ("__init__.py", "from fastvae.cli import main"),
        ("ops/_native.py", "import torch, json"),
    ],
)
def test_a_right_arrow_is_let_pass(tmp_path: Path, file: str, line: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(line)
    assert wrong_arrows(tmp_path) == []
