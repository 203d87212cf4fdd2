"""Memory-mapped arrays: the same examples as in memory, read on demand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fastvae
from fastvae import DataConfig, build_data, cli
from fastvae.data import Data, as_data
from fastvae.data.files.mapped import MappedSource
from fastvae.train.run_dir.identity import identify

TINY_GIB = 1e-6


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def pixels(num: int = 300, highest: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(0, highest + 1, (num, 4, 4), dtype=np.uint8)


def examples(data: Data) -> tuple[Tensor, Tensor]:
    train, test = (part[torch.arange(len(part))] for part in (data.train, data.test))
    return train, test


@pytest.mark.parametrize(
    "array",
    [
        pixels(),
        pixels(highest=1),
        pixels(highest=1).astype(bool),
        pixels().astype(np.int16),
        pixels().astype(">f8"),
        pixels().astype(np.float16),
        np.random.default_rng(0).integers(0, 256, (200, 5, 4, 3), dtype=np.uint8),
    ],
    ids=["uint8", "0/1", "bool", "int16", "big endian", "float16", "channels last"],
)
def test_a_file_above_the_limit_has_the_same_examples_as_in_memory(tmp_path: Path, array: np.ndarray) -> None:
    path = saved(tmp_path / "x.npy", array)
    memory, mapped = (build_data(DataConfig(name="file", path=path, max_gib=gib)) for gib in (1.0, TINY_GIB))
    assert memory.train.in_memory
    assert not mapped.train.in_memory
    assert "read on demand" in mapped.notes[0]
    assert mapped.preprocess == memory.preprocess
    for ours, theirs in zip(examples(mapped), examples(memory), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_a_memory_map_is_taken_like_the_array(tmp_path: Path) -> None:
    array, labels = pixels(), np.arange(300) % 3
    mapped = np.load(saved(tmp_path / "x.npy", array), mmap_mode="r")
    ours, theirs = (as_data((x, labels)) for x in (mapped, array))
    assert not ours.train.in_memory
    assert ours.train.labels is not None
    assert torch.equal(ours.train.labels, theirs.train.labels)
    assert [torch.equal(a, b) for a, b in zip(examples(ours), examples(theirs), strict=True)] == [True, True]
    assert identify({}, ours) == identify({}, theirs)
    changed = array.copy()
    changed[151] = 0  # a training example
    assert identify({}, as_data((np.load(saved(tmp_path / "y.npy", changed), mmap_mode="r"), labels))) != identify(
        {}, ours
    )
    with pytest.raises(TypeError, match="convert pixels to uint8"):
        as_data(np.load(saved(tmp_path / "z.npy", array.astype(np.int64)), mmap_mode="r"))


def test_a_number_is_checked_when_it_is_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    array[171, 2] = np.nan
    source = MappedSource(np.load(saved(tmp_path / "x.npy", array), mmap_mode="r"), name="x.npy")
    source[torch.arange(171)]
    with pytest.raises(ValueError, match=r"x.npy: every number must be finite .* in example 171"):
        source[torch.tensor([5, 171, 172])]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole: whole[:-1], "truncated"),
        (lambda whole: whole + b"0", "too long"),
    ],
)
def test_a_file_of_another_size_than_its_header_declares_is_refused(
    tmp_path: Path, content: object, words: str
) -> None:
    path = saved(tmp_path / "x.npy", pixels())
    path.write_bytes(content(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"x.npy: {words}: it has .* write it again"):
        build_data(DataConfig(name="file", path=path, max_gib=TINY_GIB))


def test_a_large_file_in_fortran_order_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npy", np.asfortranarray(pixels()))
    with pytest.raises(ValueError, match=r"must be in C order, got Fortran order; save it .* or raise --data.max-gib"):
        build_data(DataConfig(name="file", path=path, max_gib=TINY_GIB))


def test_a_run_trains_on_and_scores_memory_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.npy", pixels(4000))
    words = "--train.steps=2 --train.final-samples=1 --train.global-batch-size=8 --train.no-pictures".split()
    options = [f"--data.path={path}", f"--data.max-gib={TINY_GIB}", f"--run-dir={tmp_path / 'run'}"]
    assert cli.main(["train", "digits", *options, *words]) == 0
    run = fastvae.load(tmp_path / "run")
    reads: list[int] = []
    read = MappedSource.__getitem__
    monkeypatch.setattr(MappedSource, "__getitem__", lambda self, at: (reads.append(len(at)), read(self, at))[1])
    mapped = np.load(path, mmap_mode="r")
    assert torch.equal(run.score(mapped), run.score(np.array(mapped)))
    assert torch.equal(run.encode(mapped)["mu"], run.encode(path)["mu"])
    assert max(reads) <= 4096


PROGRAM = """
import os, resource, sys
import numpy as np, torch
import fastvae
from fastvae import cli

path, run_dir, gib = sys.argv[1:]
with open(path, "wb") as file:  # zeros that need no blocks on the disk
    shape = (int(gib) * 2**20, 1024)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    start = file.tell()
    file.truncate(start + int(gib) * 2**30)
with open(path, "r+b") as file:
    file.seek(start + 100)
    file.write(bytes(range(256)))
torch.set_num_threads(1)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**28 + 2**27,) * 2)  # 0.375 GiB more private memory
words = "--train.steps=2 --train.final-samples=1 --train.global-batch-size=8 --train.no-pictures"
words += " --data.test-every=50000"
words += " --model.hidden-dim 8 --data.max-gib 0.01 --data.binarize none --model.likelihood gaussian"
assert cli.main(["train", "digits", "--data.path", path, "--run-dir", run_dir, *words.split()]) == 0
run = fastvae.load(run_dir)
assert len(run.score("test")) == -(-int(gib) * 2**20 // 50000)
data = fastvae.data.as_data(np.load(path, mmap_mode="r"), test_every=50000)
model = fastvae.build_model(fastvae.ModelConfig(likelihood="gaussian", latent_dim=4), data.model_inputs, seed=0)
fastvae.train(model, data, fastvae.TrainConfig(steps=2, global_batch_size=8, final_samples=1, pictures=False))
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    gib = 1
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "big.npy"), str(tmp_path / "run"), str(gib)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
