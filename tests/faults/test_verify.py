"""`fastvae verify-resume` kills real runs, reports the results, and detects a run with another end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from fastvae.verify import Kill, Verdict, compare, text_table
from tests import launching
from tests.faults.program import Program
from tests.faults.table import Fault


def test_verify_resume_kills_and_compares(fault: Fault, tmp_path: Path) -> None:
    kills = fault.times(1, 20)
    words = ["verify-resume", "digits", f"--kills={kills}", "--keep", str(tmp_path / "runs"), "--model.hidden-dim", "8"]
    result = launching.fastvae(*words, "--train.steps=60", "--train.checkpoint-every=10", "--train.device=cpu")
    assert f"{kills} of {kills} kills bit-equal to the uninterrupted run of 60 steps" in result.stdout
    assert len(re.findall(r"SIG(?:KILL|TERM) +at step", result.stdout)) == kills  # each occurs once
    assert (tmp_path / "runs" / "undisturbed" / "model.safetensors").exists()
    fault.row(2, "fastvae verify-resume (SIGKILL, SIGTERM)", injected=kills, lost="see above")


def test_verify_resume_with_two_processes(fault: Fault, tmp_path: Path) -> None:
    if not fault.full:
        pytest.skip("in `make faults` only: many starts of torchrun")
    words = ["verify-resume", "digits", "--kills=5", "--nproc=2", "--model.hidden-dim", "8", "--train.device=cpu"]
    result = launching.run(["-m", "fastvae", *words], timeout_s=1500)
    assert "5 of 5 kills bit-equal" in result.stdout
    fault.row(2, "fastvae verify-resume --nproc 2", injected=5, lost="see above")


def reorder_metadata(path: Path) -> None:
    """Write a safetensors file again with another order of its metadata, which the library does not fix."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    other = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    assert len(other) == size
    path.write_bytes(content[:8] + other + content[8 + size :])


def test_verify_resume_detects_a_difference(program: Program, tmp_path: Path) -> None:
    for seed in (0, 1):
        program.run(tmp_path / f"run{seed}", "--train.steps=2", f"--seed={seed}")
    shutil.copytree(tmp_path / "run0", tmp_path / "same")
    reorder_metadata(tmp_path / "same/model.safetensors")
    assert compare(tmp_path / "run0", tmp_path / "same") == []
    found = compare(tmp_path / "run0", tmp_path / "run1")
    assert "seed is 0 and 1" in found
    assert any("tensors differ, the first is" in text for text in found)
    assert "evaluation.json differs" in found


def test_the_table_counts_kills_whose_run_differs() -> None:
    kills = [Kill(number=n, signal="SIGKILL", at_step=7, resumed_from=5, run=f"run{n // 2}") for n in (0, 1, 2)]
    verdict = Verdict(kills=kills, differences={"run0": [], "run1": ["model.safetensors differs"]})
    assert not verdict.holds
    text = text_table(verdict, 60)
    assert "run1: model.safetensors differs" in text
    assert text.endswith("2 of 3 kills bit-equal to the uninterrupted run of 60 steps; at most 2 steps were repeated")


@pytest.mark.parametrize(
    ("option", "expected"), [("--kill=3", "no option is named '--kill'"), ("--kills=0", "must be at least 1")]
)
def test_invalid_options_are_refused_by_name(program: Program, tmp_path: Path, option: str, expected: str) -> None:
    process = program.start("verify-resume", "digits", option, output=tmp_path / "said.txt")
    assert process.wait() == 2
    assert expected in process.text()
