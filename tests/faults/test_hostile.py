"""Hostile and damaged input to the program: a one-line error, an exit code, no other output, bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from tests.faults.program import Program
from tests.faults.table import Fault
from tests.runs import free_port

MEMORY_BYTES = 3 * 2**29  # memory that a refusal may allocate beyond that of the started program
BATCH = "--train.global-batch-size=16"
SHORT = {  # the cases of `make test`
    "pickled objects",
    "a header that lies",
    "constant data",
    "huge dimensions",
    "a gzip bomb",
    "an unknown key",
    "nan",
    "an alias bomb",
    "overlapping offsets",
    "a header of 1 GB",
    "--train.lr=nan",
}
EXAMPLES = np.random.default_rng(0).random((200, 8)).astype(np.float32)


def skip_in_the_short_form(fault: Fault, name: str) -> None:
    if not fault.full and name not in SHORT:
        pytest.skip("in `make faults` only")


def start(program: Program, folder: Path, words: tuple[str, ...], **environment: str) -> Any:
    """Start ``fastvae WORDS`` with its memory limited."""
    process = program.start(*words, output=folder / f"said{environment.get('RANK', '')}.txt", **environment)
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    return process


def refusal(program: Program, folder: Path, *words: str) -> str:
    """Return the program's error; check that it ends with code 2 and has written in its run directory only."""
    before = snapshot(folder)
    process = start(program, folder, words)
    code, said = process.wait(), process.text()
    assert code == 2, f"exit code {code}: {said[-2000:]}"
    assert "Traceback" not in said
    after = {path for path in snapshot(folder) if not path.startswith(("run/", "said"))} - {"run"}
    assert after == before - {path for path in before if path.startswith(("run/", "said"))} - {"run"}
    return said


def one_line(said: str) -> str:
    """Return the output, which must be one line."""
    [line] = [line for line in said.splitlines() if line]
    assert line.startswith("fastvae: ")
    return line


def snapshot(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def train(folder: Path, name: str) -> tuple[str, ...]:
    """Return the command that trains on a file of the folder."""
    return (
        "train",
        "digits",
        "--data.name=file",
        f"--data.path={folder / name}",
        "--data.max-gib=0.05",
        f"--run-dir={folder / 'run'}",
        BATCH,
        "--train.steps=2",
    )


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(folder: Path, **members: bytes) -> None:
    with zipfile.ZipFile(folder / "own.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


class Trap:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled",)


def header(shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bad_value(value: float) -> bytes:
    examples = EXAMPLES.copy()
    examples[77, 3] = value
    return npy(examples)


ARRAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled objects": (
        lambda d: npz(d, x=npy(np.array([Trap()], dtype=object), allow_pickle=True)),
        "contains pickled Python objects",
    ),
    "truncated archive": (
        lambda d: (d / "own.npz").write_bytes(b"PK\x03\x04" + bytes(900)),
        "not a readable .npz archive",
    ),
    "truncated array": (lambda d: npz(d, x=npy(EXAMPLES)[:-100]), "truncated: 6400 bytes of numbers expected"),
    "a header that lies": (lambda d: npz(d, x=header((2**40, 8))), "more than the limit of 0.05 GiB (--data.max-gib)"),
    "a zip bomb": (lambda d: npz(d, x=header((8, 8)) + bytes(2**28)), "longer than the 256"),
    "NaN": (lambda d: npz(d, x=bad_value(np.nan)), "got NaN or infinity in example 77"),
    "infinity": (lambda d: npz(d, x=bad_value(np.inf)), "got NaN or infinity in example 77"),
    "constant data": (lambda d: npz(d, x=npy(np.ones_like(EXAMPLES))), "all 200 examples are the same"),
    "no examples": (lambda d: npz(d, x=npy(EXAMPLES[:0])), "not empty, got shape [0, 8]"),
    "one example": (lambda d: npz(d, x=npy(EXAMPLES[:1])), "at least two examples"),
    "fewer examples than a batch": (
        lambda d: npz(d, x=npy(EXAMPLES[:10])),
        "global_batch_size must be in 1 .. 9, the number of training examples, got 16",
    ),
    "negative labels": (lambda d: npz(d, x=npy(EXAMPLES), y=npy(-np.ones(200))), "labels must be whole numbers >= 0"),
    "labels that are NaN": (
        lambda d: npz(d, x=npy(EXAMPLES), y=npy(np.full(200, np.nan))),
        "labels must be whole numbers >= 0",
    ),
    "too few labels": (lambda d: npz(d, x=npy(EXAMPLES), y=npy(np.ones(3))), "labels must have shape [200]"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str, program: Program, tmp_path: Path, fault: Fault) -> None:
    skip_in_the_short_form(fault, name)
    plant, words = ARRAYS[name]
    plant(tmp_path)
    assert words in one_line(refusal(program, tmp_path, *train(tmp_path, "own.npz")))
    fault.row(20, f"npz: {name}", injected=1)


def image(pixels: int, extension: str = "png") -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(pixels).integers(0, 255, (pixels, pixels), dtype=np.uint8)
    Image.fromarray(values).save(buffer, extension)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


IMAGES = {
    "truncated": (image(32)[:-200], "the image is truncated or damaged"),
    "huge dimensions": (png_of_size(60_000, 60_000), "b.png"),
    "not an image": (b"<html>404</html>", "not an image that Pillow reads"),
    "empty": (b"", "not an image that Pillow reads"),
    "of another size": (image(16), "all images must have one size"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, program: Program, tmp_path: Path, fault: Fault) -> None:
    skip_in_the_short_form(fault, name)
    content, words = IMAGES[name]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(image(32))
    (tmp_path / "images" / "b.png").write_bytes(content)
    line = one_line(refusal(program, tmp_path, *train(tmp_path, "images")))
    assert words in line
    assert "b.png" in line
    fault.row(21, f"image: {name}", injected=1)


def idx(*shape: int, content: bytes | None = None, magic: bytes = b"\0\0\x08") -> bytes:
    body = content if content is not None else bytes(int(np.prod(shape)))
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


def labels_of(value: int) -> bytes:
    return gzip.compress(idx(60000, content=bytes([value]) * 60000))


IDX: dict[str, tuple[bytes, str]] = {
    "truncated": (gzip.compress(idx(60000, 28, 28), 1)[:-5000], "truncated or damaged"),
    "wrong magic": (gzip.compress(idx(60000, 28, 28, magic=b"\0\0\x0d"), 1), "begins with 00 00 08"),
    "wrong sizes": (gzip.compress(idx(100, 28, 28), 1), "images-idx3-ubyte.gz"),
    "sizes that lie": (gzip.compress(idx(60000, 28, 28, content=b"abc"), 1), "truncated: 47040000 bytes expected"),
    "a gzip bomb": (gzip.compress(idx(60000, 28, 28) + bytes(2**28), 1), "longer than"),
    "huge sizes": (gzip.compress(idx(2**31, 28, 28, content=b"")), "than the limit of"),
    "other pixels": (gzip.compress(idx(60000, 28, 28), 1), "not the published file"),
}


@pytest.mark.parametrize("name", IDX)
def test_idx(name: str, program: Program, tmp_path: Path, fault: Fault) -> None:
    skip_in_the_short_form(fault, name)
    content, words = IDX[name]
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(labels_of(3))
    command = ("train", "mnist", f"--data.dir={tmp_path / 'data'}", "--data.no-download", f"--run-dir={tmp_path}/run")
    assert words in one_line(refusal(program, tmp_path, *command))
    fault.row(22, f"idx.gz: {name}", injected=1)


@pytest.fixture(scope="module")
def finished(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("hostile") / "run"
    program.run(run_dir, "--train.steps=2")
    return run_dir


def altered(text: str, *path: str, value: Any) -> str:
    """Return the configuration with another value of one setting."""
    fields = yaml.safe_load(text)
    place = fields
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return yaml.safe_dump(fields)


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
CONFIGS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "an unknown key": (lambda t: altered(t, "train", "stepz", value=3), "stepz"),
    "a wrong type": (lambda t: altered(t, "train", "steps", value="many"), "train.steps"),
    "a list for a mapping": (lambda t: altered(t, "model", value=[1]), "model"),
    "a number for a list": (lambda t: altered(t, "model", "hidden_dim", value=5), "config.yaml"),
    "nan": (lambda t: altered(t, "train", "lr", value=float("nan")), "train.lr must be a positive number, got nan"),
    "a nan weight": (lambda t: altered(t, "train", "objective", "kl_weight", value=float("nan")), "kl_weight"),
    "negative sizes": (lambda t: altered(t, "model", "latent_dim", value=-3), "must be at least 1, got -3"),
    "no mapping": (lambda t: "just text", "does not describe the model and the data"),
    "not YAML": (lambda t: t + "\n]: [", "is not YAML"),
    "a Python object": (lambda t: t + "\nx: !!python/object/apply:os.system ['touch unpickled']\n", "is not YAML"),
    "an alias bomb": (lambda t: BOMB + t, "aliases"),
    "deep nesting": (lambda t: "x: " + "[" * 100_000, "is not YAML"),
    "not text": (lambda t: b"\xff\xfe\x00binary", "is not YAML"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(name: str, program: Program, finished: Path, tmp_path: Path, fault: Fault) -> None:
    skip_in_the_short_form(fault, name)
    change, words = CONFIGS[name]
    (tmp_path / "other").mkdir()
    changed = change((finished / "config.yaml").read_text())
    path = tmp_path / "other" / "config.yaml"
    shutil.copy(finished / "run.json", path.parent)
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    (tmp_path / "other" / "model.safetensors").write_bytes((finished / "model.safetensors").read_bytes())
    line = one_line(refusal(program, tmp_path, "evaluate", str(tmp_path / "other")))
    assert words in line
    assert len(line) < 1000
    fault.row(23, f"configuration: {name}", injected=1)


def tensors(entries: dict[str, Any], content: bytes = bytes(64), size: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + content


F32 = {"dtype": "F32", "shape": [4]}
WEIGHTS: dict[str, bytes] = {
    "overlapping offsets": tensors({"a": {**F32, "data_offsets": [0, 16]}, "b": {**F32, "data_offsets": [8, 24]}}),
    "a header of 1 GB": tensors({}, size=10**9),
    "a header that never ends": tensors({}, size=2**63),
    "names that leave the folder": safetensors.torch.save({"../../outside": torch.zeros(4)}),
    "other tensors": safetensors.torch.save({"weight": torch.zeros(4)}),
    "nothing": b"",
    "text": b"not tensors at all",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, program: Program, finished: Path, tmp_path: Path, fault: Fault) -> None:
    skip_in_the_short_form(fault, name)
    (tmp_path / "other").mkdir()
    for kept in ("config.yaml", "run.json"):
        (tmp_path / "other" / kept).write_bytes((finished / kept).read_bytes())
    (tmp_path / "other" / "model.safetensors").write_bytes(WEIGHTS[name])
    line = one_line(refusal(program, tmp_path, "evaluate", str(tmp_path / "other")))
    assert "model.safetensors is not a safetensors file" in line or "model.safetensors does not fit the model" in line
    assert len(line) < 2000
    fault.row(24, f"weights: {name}", injected=1)


SETTINGS = {
    "--train.lr=nan": "train.lr must be a positive number",
    "--train.objective.kl-weight=nan": "kl_weight",
    "--train.objective.free-bits=inf": "free_bits must be a number >= 0",
    "--train.timeout=inf": "train.timeout must be a positive number",
    "--model.likelihood-logvar-start=inf": "likelihood_logvar_start",
    "--model.latent-dim=-1": "must be at least 1",
    "--train.global-batch-size=0": "train.global_batch_size must be at least 1",
    "--train.guard.spike-sigma=nan": "train.guard.spike_sigma",
    "--data.max-gib=-1": "max_gib must be a positive number",
    "--train.stepz=3": "did you mean --train.steps?",
}


@pytest.mark.parametrize("option", SETTINGS)
def test_settings(option: str, program: Program, tmp_path: Path, fault: Fault) -> None:
    skip_in_the_short_form(fault, option)
    said = refusal(program, tmp_path, "train", "digits", f"--run-dir={tmp_path}/run", option)
    assert SETTINGS[option] in " ".join(said.replace("│", " ").split())  # the message may be in a box
    assert len(said.splitlines()) <= 8
    fault.row(25, f"setting: {option}", injected=1)


@pytest.mark.parametrize("batch", [16, 1])
def test_fewer_examples_than_ranks(batch: int, program: Program, tmp_path: Path, fault: Fault) -> None:
    """Two ranks and one training example (and one for validation, one for testing): one rank trains on it."""
    npz(tmp_path, x=npy(EXAMPLES[:3]))
    words = (*train(tmp_path, "own.npz"), f"--train.global-batch-size={batch}", "--train.final-samples=1")
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [start(program, tmp_path, words, RANK=str(r), LOCAL_RANK=str(r), **world) for r in range(2)]
    codes = [process.wait() for process in processes]
    said = [process.text() for process in processes]
    assert codes == [0, 0], said
    assert ("train.global_batch_size: 16 is more than the 1 training examples" in said[0]) == (batch == 16)
    fault.row(26, f"one example, two ranks, batch {batch}", injected=1)
