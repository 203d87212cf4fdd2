"""The paths of a run's files."""

from __future__ import annotations

import ast
from pathlib import Path

from fastvae.train.run_dir.run_dir import RunDir, checkpoint_name, checkpoint_paths, step_of
from tests.source_tree import source_files

PATHS = {
    value.name
    for value in (getattr(RunDir(Path("run")), name) for name, entry in vars(RunDir).items() if type(entry) is property)
    if isinstance(value, Path)
}


def test_file_names_of_a_run_are_defined_in_one_module() -> None:
    found = [
        f"{file.name}:{node.lineno} / {node.right.value!r}"
        for file in source_files()
        for node in ast.walk(file.tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
        if node.right.value in PATHS and file.name != "train/run_dir/run_dir.py"
    ]
    assert {"checkpoints", "status.json", "config.yaml", "metrics.jsonl"} <= PATHS
    assert found == [], "use RunDir"


def test_checkpoints_are_listed_by_step_in_descending_order(tmp_path: Path) -> None:
    paths = RunDir(tmp_path)
    assert paths.newest_checkpoint is None
    for step in (99_999_999, 7, 100_000_000):
        (paths.checkpoints / checkpoint_name(step)).mkdir(parents=True)
    (paths.checkpoints / "step_last").mkdir()
    assert [step_of(path) for path in checkpoint_paths(paths.checkpoints)] == [100_000_000, 99_999_999, 7]
    assert paths.newest_checkpoint == paths.checkpoints / "step_100000000"
