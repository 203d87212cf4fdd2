"""The kit of ``make gpu-kit``: which machines can use it, and how errors of its build are reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_kit import check_libraries, copy_tree, source_digest
from gpu_prepare import why_not_kit

ROOT = Path(__file__).parents[2]
FOUND = {"python": "3.12", "torch": "2.11.0+cu130", "machine": "x86_64"}


def test_a_kit_for_another_interpreter_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in (why_not_kit(tmp_path, FOUND) or "")
    (tmp_path / "kit.json").write_text(json.dumps({**FOUND, "sources": "0"}))
    assert why_not_kit(tmp_path, FOUND) is None
    other = {**FOUND, "python": "3.13"}
    assert all(words in str(why_not_kit(tmp_path, other)) for words in ("python", "3.12", "3.13"))


def test_the_source_digest_changes_only_with_the_kernels(tmp_path: Path) -> None:
    copy_tree(tmp_path, without=("*.so", "_build_info.json"))
    assert source_digest(tmp_path) == source_digest(ROOT)
    assert not list((tmp_path / "fastvae").glob("*.so"))
    cached = tmp_path / "csrc" / "__pycache__" / "sass.cpython-312.pyc"  # as `make test` leaves it
    cached.parent.mkdir()
    cached.touch()
    assert source_digest(tmp_path) == source_digest(ROOT)
    (tmp_path / "csrc" / "common" / "new.h").write_text("#pragma once\n")
    assert source_digest(tmp_path) != source_digest(ROOT)


def test_a_missing_library_is_reported_with_the_reason(tmp_path: Path) -> None:
    info = {"reason": None, "cuda_reason": "nvcc was not found (CUDA_HOME, PATH)"}
    (tmp_path / "_build_info.json").write_text(json.dumps(info))
    (tmp_path / "libfastvae_cpu.so").touch()
    with pytest.raises(SystemExit, match=r"libfastvae_cuda\.so .*nvcc was not found"):
        check_libraries(sys.executable, tmp_path)
    (tmp_path / "libfastvae_cuda.so").touch()
    with pytest.raises(SystemExit, match="file too short"):
        check_libraries(sys.executable, tmp_path)


def test_an_interpreter_with_another_torch_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps({**FOUND, 'torch': '2.13.0+cpu'})}'\n")
    python.chmod(0o755)
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_kit.py")]
    variables = {**os.environ, "GPU_PYTHON": str(python)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert all(words in done.stderr for words in ("GPU_PYTHON", "'torch': '2.11.0'", "'torch': '2.13.0+cpu'"))
