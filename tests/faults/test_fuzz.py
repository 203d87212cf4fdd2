"""Thousands of damaged files for each parser of fastvae; random calls of native operators, also under sanitizers."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import fastvae
from fastvae.data.audio.waveform import read_recording
from fastvae.data.files.arrays import load_arrays
from fastvae.data.files.idx import read_idx
from fastvae.data.interactions.files import read_interactions
from fastvae.data.pixels.images import load_folder
from fastvae.data.restore import describe, restore
from fastvae.data.table.cells import Reading
from fastvae.data.table.columns import Column, TableConfig, columns_from_bytes, columns_to_bytes
from fastvae.data.table.file import read_table
from fastvae.ops import backend
from fastvae.recipes import digits
from fastvae.run.config import read_config
from fastvae.train.run_dir.checkpoint import CheckpointError, read_checkpoint
from fastvae.train.run_dir.record import write_record
from fastvae.train.run_dir.resume import plain
from tests import launching
from tests.faults.table import Fault

FUZZ = Path(__file__).with_name("operator_fuzz.py")
MAX_BYTES = 2**20
PIXELS = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)


def as_bytes(save: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arguments, **options)
    return buffer.getvalue()


def read_folder(path: Path) -> object:
    return load_folder(path.parent, max_bytes=MAX_BYTES)


def idx_file() -> bytes:
    return b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in PIXELS.shape) + PIXELS.tobytes()


def config_file() -> bytes:
    return yaml.safe_dump(plain(asdict(digits())), sort_keys=False).encode()


def data_file() -> bytes:
    return describe(fastvae.build_data(fastvae.DataConfig(name="digits"), 0))


def sparse_file() -> bytes:
    rows = {"indptr": [0, 2, 2, 4], "indices": [0, 3, 1, 2], "data": [1.0, 5.0, 3.0, 2.0]}
    return as_bytes(np.savez, format=np.array(b"csr"), shape=[3, 4], **rows)


def table_file() -> bytes:
    rows = [f'"{n},5";0{n % 9 + 1}.01.2026;{"tf"[n % 2]};-{n}.250 €;"a\nb"' for n in range(6)]
    return "\n".join(["sep=;", "x;day;on;price;note", *rows]).encode()


def columns_file() -> bytes:
    reading = Reading(kind="local", decimal=",", unit="$")
    return columns_to_bytes([Column("a", 1.5, 2.0, None, reading), Column("b", categories=("x", "(other)"))])


def sound_file(form: str) -> bytes:
    samples = np.concatenate([np.zeros(900), np.sin(np.arange(300)) * 0.5])
    return as_bytes(soundfile.write, samples, 800, format=form)


def read_sound(path: Path) -> object:
    return [read_recording(path, 400, 100, silence=silence) for silence in ("auto", "keep", "skip")]


def read_run_config(path: Path) -> object:
    write_record(path.parent, {})  # every run directory contains this file
    return read_config(path.parent)


PARSERS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    "idx": ("own.idx", idx_file, lambda path: read_idx(path, max_bytes=MAX_BYTES)),
    "npy": ("own.npy", lambda: as_bytes(np.save, PIXELS), lambda path: load_arrays(path, max_bytes=MAX_BYTES)),
    "npz": (
        "own.npz",
        lambda: as_bytes(np.savez, x=PIXELS, y=[1, 2, 3]),
        lambda p: load_arrays(p, max_bytes=MAX_BYTES),
    ),
    "compressed npz": (
        "own.npz",
        lambda: as_bytes(np.savez_compressed, x=PIXELS),
        lambda path: load_arrays(path, max_bytes=MAX_BYTES),
    ),
    "sparse npz": ("own.npz", sparse_file, lambda path: read_interactions(path, 2.0, MAX_BYTES)),
    "ratings": (
        "own.csv",
        lambda: b'user,item,rating\na,"x, y",4\nb,z,1.5\n',
        lambda path: read_interactions(path, 2.0),
    ),
    "table": ("own.csv", table_file, lambda path: read_table(path, TableConfig(), max_bytes=MAX_BYTES)),
    "compressed table": (
        "own.csv.gz",
        lambda: gzip.compress(table_file()),
        lambda path: read_table(path, TableConfig(), max_bytes=MAX_BYTES),
    ),
    "columns of a table": ("columns.json", columns_file, lambda path: columns_from_bytes(path.read_bytes())),
    "png": ("own.png", lambda: as_bytes(Image.fromarray(PIXELS[0]).save, format="png"), read_folder),
    "jpeg": ("own.jpg", lambda: as_bytes(Image.fromarray(PIXELS[0]).save, format="jpeg"), read_folder),
    "wav": ("own.wav", lambda: sound_file("WAV"), read_sound),
    "aiff": ("own.aiff", lambda: sound_file("AIFF"), read_sound),
    "config.yaml": ("config.yaml", config_file, read_run_config),
    "data.json": ("data.json", data_file, lambda path: restore({"data.json": path.read_bytes()}, "fuzz")),
}


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """Return the content with some bytes changed, removed, duplicated or truncated."""
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, max(0, len(content) - 1)))
        last = min(len(content), first + draw(st.integers(1, 12)))
        kind = draw(st.sampled_from(("change", "change", "remove", "repeat", "truncate")))
        middle = {
            "change": draw(st.binary(min_size=last - first, max_size=last - first)),
            "remove": b"",
            "repeat": content[first:last] * 2,
            "truncate": b"",
        }[kind]
        content = content[:first] + middle + (b"" if kind == "truncate" else content[last:])
    return content


def fuzz(content: bytes, parse: Callable[[bytes], object], num: int) -> None:
    """Parse damaged content ``num`` times; each is parsed or refused with a ValueError."""

    @settings(max_examples=num, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged=damages(content))
    def parses_or_refuses(damaged: bytes) -> None:
        with contextlib.suppress(ValueError):
            parse(damaged)

    parses_or_refuses()


@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_file_is_parsed_or_refused(name: str, tmp_path: Path, fault: Fault) -> None:
    file, make, parse = PARSERS[name]
    path = tmp_path / file

    def parse_bytes(content: bytes) -> object:
        path.write_bytes(content)
        return parse(path)

    content = make()
    parse_bytes(content)  # the undamaged file is valid
    times = fault.times(short=40, full=3000)
    fuzz(content, parse_bytes, times)
    fault.row(27, f"fuzzed file: {name}", injected=times)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, fault: Fault) -> None:
    """Any change to any file of a checkpoint is refused with the documented error."""
    data = fastvae.build_data(fastvae.DataConfig(name="digits"), 0)
    model = fastvae.build_model(fastvae.ModelConfig(hidden_dim=(4,), latent_dim=2), data.event_shape, seed=0)
    config = fastvae.TrainConfig(steps=1, final_samples=1, device="cpu")
    fastvae.train(model, data, config, run_dir=tmp_path)
    checkpoint = tmp_path / "checkpoints" / "step_00000001"
    read_checkpoint(checkpoint)
    files = sorted(checkpoint.iterdir())
    times = fault.times(short=20, full=1000)
    for path in files:
        content = path.read_bytes()

        def read_damaged(damaged: bytes, path: Path = path, content: bytes = content) -> None:
            path.write_bytes(damaged)
            if damaged == content:
                return
            with pytest.raises(CheckpointError):
                read_checkpoint(checkpoint)

        fuzz(content, read_damaged, times)
        path.write_bytes(content)
    fault.row(27, "fuzzed checkpoint", injected=times * len(files))


def test_operators_agree_with_the_reference(fault: Fault) -> None:
    if not any(entry.device == "cpu" and entry.name == "native" for entry in backend()):
        pytest.skip("the native library is not built here")
    calls = fault.times(short=600, full=60_000)
    result = launching.run([str(FUZZ), "1", str(calls)], timeout_s=1800)
    fault.row(28, "native operators: random calls", injected=int(result.stdout.split()[0]))


def test_operators_pass_under_sanitizers(tmp_path: Path, fault: Fault) -> None:
    """A build under AddressSanitizer and UBSan, loaded instead of the usual one, and the same random calls."""
    libraries = sanitizer_libraries()
    if not fault.full or libraries is None:
        pytest.skip("in `make faults` only, with a compiler that has sanitizers")
    shutil.copytree(
        launching.ROOT / "fastvae", tmp_path / "fastvae", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    build = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path)]
    environment = {**launching.environment(), "FASTVAE_SANITIZE": "address,undefined", "FASTVAE_BUILD": "require"}
    subprocess.run(build, cwd=launching.ROOT, env=environment, check=True, capture_output=True, timeout=3600)
    environment |= {
        "PYTHONPATH": str(tmp_path),
        "FASTVAE_BACKEND": "native",
        "LD_PRELOAD": libraries,
        # Python itself never frees all its memory; only the kernels' reads and writes are checked here.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(FUZZ), "1000000", "5000"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-6000:]
    fault.row(30, "native operators under ASan and UBSan: random calls", injected=int(result.stdout.split()[0]))


def sanitizer_libraries() -> str | None:
    """The compiler's sanitizer runtimes, for LD_PRELOAD: Python itself is not linked with them."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        return None
    found = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return ":".join(found) if all(Path(path).is_absolute() for path in found) else None
