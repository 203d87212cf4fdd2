"""Rows 5, 6, 15, 16: checkpoints that are damaged, hostile or of another run are named and not used."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastvae.train.run_dir.checkpoint import MANIFEST, STATE, CheckpointError, read_checkpoint
from fastvae.train.run_dir.files import dump_json
from tests.faults.program import Program
from tests.faults.table import Fault

OPTIONS = ("--train.steps=4", "--train.checkpoint-every=2")


@pytest.fixture(scope="module")
def finished(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("damage") / "run"
    program.run(run_dir, *OPTIONS)
    return run_dir


@pytest.fixture
def damaged(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, which the test damages."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def newest(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "step_00000004"


def tensors(checkpoint: Path) -> Path:
    [path] = checkpoint.glob("*.safetensors")
    return path


def resumes_from_step_2(program: Program, run_dir: Path, whole: Path) -> str:
    """Run again and return the output: the checkpoint of step 2 is used, and the end is that of the undisturbed run."""
    output = run_dir.with_name("run.rank0.txt")
    output.unlink(missing_ok=True)
    program.run(run_dir, *OPTIONS)
    text = output.read_text()
    assert "from the checkpoint of step 2" in text, text
    assert "checkpoint skipped" in text, text
    assert (run_dir / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    return text


def test_a_truncated_checkpoint_is_skipped(fault: Fault, program: Program, finished: Path, damaged: Path) -> None:
    """Row 5. Pass: the previous valid one is used, with a warning that names the file."""
    injected = 0
    for name in (tensors(newest(finished)).name, STATE, MANIFEST):
        content = (newest(finished) / name).read_bytes()
        for percent in (0, 1, 50, 99):
            (newest(damaged) / name).write_bytes(content[: len(content) * percent // 100])
            with pytest.raises(CheckpointError, match=name):
                read_checkpoint(newest(damaged))
            injected += 1
            if fault.full or (percent == 50 and name.endswith(".safetensors")):
                assert name in resumes_from_step_2(program, damaged, finished)
                shutil.rmtree(damaged)
                shutil.copytree(finished, damaged)
        (newest(damaged) / name).write_bytes(content)
    fault.row(5, "newest checkpoint truncated, 3 files", injected=injected, lost="1 save interval")


def test_flipped_bits_are_detected(fault: Fault, program: Program, finished: Path, damaged: Path) -> None:
    """Row 6. Pass: the checksums detect every flipped bit, anywhere in the checkpoint."""
    rng, flips = random.Random(6), fault.times(30, 300)
    files = sorted(newest(damaged).iterdir())
    for number in range(flips):
        path = files[number % len(files)]
        content = bytearray(path.read_bytes())
        position = rng.randrange(len(content))
        content[position] ^= 1 << rng.randrange(8)
        original = path.read_bytes()
        path.write_bytes(bytes(content))
        with pytest.raises(CheckpointError):
            read_checkpoint(newest(damaged))
        if number < flips - 1:
            path.write_bytes(original)
    resumes_from_step_2(program, damaged, finished)
    fault.row(6, "one bit flipped, any file", injected=flips, lost="1 save interval")


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def seal(checkpoint: Path, extra: dict[str, dict[str, object]] | None = None) -> None:
    """Write a manifest that matches the checkpoint's content, as an attacker would."""
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    manifest.pop("sha256")
    contents = {path.name: path.read_bytes() for path in sorted(checkpoint.iterdir()) if path.name != MANIFEST}
    manifest["files"] = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    manifest["files"] |= extra or {}
    digest = hashlib.sha256(dump_json(manifest).encode()).hexdigest()
    (checkpoint / MANIFEST).write_text(dump_json({**manifest, "sha256": digest}))


def header(length: int, fields: dict[str, object]) -> bytes:
    text = json.dumps(fields).encode()
    return (length or len(text)).to_bytes(8, "little") + text


def plant_pickle(checkpoint: Path, mark: Path) -> None:
    import pickle

    for name in (".metadata", "data.pkl", tensors(checkpoint).name):
        (checkpoint / name).write_bytes(pickle.dumps(Trap(mark)))


def plant_huge_header(checkpoint: Path, mark: Path) -> None:
    tensors(checkpoint).write_bytes(header(1 << 30, {}) + bytes(1 << 16))


def plant_overlap(checkpoint: Path, mark: Path) -> None:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    tensors(checkpoint).write_bytes(header(0, {"one": entry, "two": entry}) + bytes(16))


def plant_parent_name(checkpoint: Path, mark: Path) -> None:
    outside = checkpoint.parent / "outside.safetensors"
    outside.write_bytes(tensors(checkpoint).read_bytes())
    content = outside.read_bytes()
    seal(checkpoint, {"../outside.safetensors": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}})


def plant_link(checkpoint: Path, mark: Path) -> None:
    real = tensors(checkpoint)
    target = checkpoint.parent.parent / "elsewhere"
    real.rename(target)
    real.symlink_to(target)


def plant_other_tensors(checkpoint: Path, mark: Path) -> None:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    tensors(checkpoint).write_bytes(header(0, {"../../one": entry}) + bytes(16))


HOSTILE = (plant_pickle, plant_huge_header, plant_overlap, plant_parent_name, plant_link)


@pytest.mark.parametrize("plant", HOSTILE)
def test_a_hostile_checkpoint_is_refused(
    fault: Fault, program: Program, finished: Path, damaged: Path, plant: Callable[..., None]
) -> None:
    """Row 15. Pass: refused by name although its checksums match; nothing is executed or written elsewhere."""
    mark = damaged.parent / "mark"
    plant(newest(damaged), mark)
    if plant is not plant_parent_name:
        seal(newest(damaged))
    with pytest.raises(CheckpointError, match="step_00000004"):
        read_checkpoint(newest(damaged))
    if fault.full or plant is plant_pickle:
        resumes_from_step_2(program, damaged, finished)
    assert not mark.exists()
    assert {path.name for path in damaged.parent.iterdir()} <= {"run", "run.rank0.txt"}
    fault.row(15, plant.__name__.replace("plant_", "hostile checkpoint: ").replace("_", " "), injected=1)


def test_tensors_of_another_model_are_refused(fault: Fault, program: Program, finished: Path, damaged: Path) -> None:
    """Row 15, with wrong tensors only. Pass: refused by name before anything is loaded."""
    plant_other_tensors(newest(damaged), damaged)
    seal(newest(damaged))
    assert program.run(damaged, *OPTIONS, check=False) == [2]
    text = damaged.with_name("run.rank0.txt").read_text()
    assert "tensors differ from this run's" in text
    assert "Traceback" not in text
    fault.row(15, "hostile checkpoint: other tensors", injected=1)


CHANGES = {
    "--model.latent-dim=7": r"model.latent_dim was 10, now 7",
    "--train.lr=0.5": r"train.lr was",
    "--seed=9": r"seed was 0, now 9",
    "--train.steps=2": r"is at step 4, past the 2 requested steps",
}


def test_a_changed_configuration_is_refused(fault: Fault, program: Program, damaged: Path) -> None:
    """Row 16. Pass: the difference is named, nothing is loaded partially, the checkpoints are kept."""
    output = damaged.with_name("run.rank0.txt")
    for option, expected in list(CHANGES.items())[: fault.times(2, len(CHANGES))]:
        output.unlink(missing_ok=True)
        assert program.run(damaged, *OPTIONS, option, check=False) == [2]
        assert expected in output.read_text()
        assert "Traceback" not in output.read_text()
    read_checkpoint(newest(damaged))
    fault.row(16, "changed configuration", injected=fault.times(2, len(CHANGES)))


def test_another_checkpoint_format_is_refused(fault: Fault, damaged: Path, finished: Path, program: Program) -> None:
    """Row 16. Pass: the error names the writing and the reading version; the previous checkpoint is used."""
    manifest = json.loads((newest(damaged) / MANIFEST).read_text())
    (newest(damaged) / MANIFEST).write_text(dump_json({**manifest, "format": 99, "fastvae": "7.0"}))
    text = resumes_from_step_2(program, damaged, finished)
    assert "format 99, written by fastvae 7.0; this version" in text
    fault.row(16, "a format of another version", injected=1, lost="1 save interval")
