"""The README's Python examples run unchanged, its links exist, and its tables are up to date."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests import launching

README = (launching.ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    launching.run([str(tmp_path / "example.py")])


def test_the_training_example_runs_under_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = [text for text in EXAMPLES if "fastvae.train(" in text]
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    launching.run([str(tmp_path / "example.py")], num_processes=2)
    assert (tmp_path / "runs/mine/model.safetensors").exists()


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (launching.ROOT / link).exists()] == []


def test_tables_agree_with_the_results() -> None:
    path = launching.ROOT / "benchmarks" / "readme_table.py"
    spec = importlib.util.spec_from_file_location("readme_table", path)
    assert spec is not None
    assert spec.loader is not None
    readme_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme_table)
    assert readme_table.updated(README) == README, "run python benchmarks/readme_table.py"
