"""docs/architecture.md names files, folders and objects that exist."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.test_imports import LEVELS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:fastvae|tests|csrc|benchmarks|docs|launch)/[\w./]*)`", PAGE)))
RECORDS = re.findall(
    r"^\| [^|]+ \| `(\w+)` in `(fastvae/[\w/]+\.py)` \| `?(\w+)`?(?: in `(fastvae/[\w/]+\.py)`)?", PAGE, re.M
)


def module_of(path: str) -> object:
    return importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_record_and_registry_is_in_its_file() -> None:
    assert len(RECORDS) == 6
    for record, home, registry, registry_home in RECORDS:
        assert hasattr(module_of(home), record)
        if registry_home:
            assert hasattr(module_of(registry_home), registry)


def test_the_levels_are_those_of_the_import_test() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.M)
    levels = [set(re.findall(r"`(\w+)`", cell)) for _, cell in rows]
    assert levels == [level for level in LEVELS if level != {"__main__"}]


def test_the_core_of_data_knows_no_kind() -> None:
    """A new kind is a folder: at most 14 files are at the top of data/."""
    assert len(list((ROOT / "fastvae" / "data").glob("*.py"))) <= 14


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_top_level_contains_what_the_page_names_and_no_other_files() -> None:
    command = ["git", "-C", str(ROOT), "ls-tree", "--name-only", "HEAD"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    folders = {"csrc", "fastvae", "launch", "tests", "benchmarks", "docs", ".ci"}
    files = {"setup.py", "pyproject.toml", "constraints.txt", "Makefile", "MANIFEST.in", ".gitignore", "LICENSE"}
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    assert set(names) == folders | files | pages
