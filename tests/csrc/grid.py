"""The emulated grid as a library that is called with tensors (tests/csrc/emulated_grid.cpp)."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor

import fastvae

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]  # in the order of the C++ side
STORAGES = [*DTYPES, torch.bool, torch.uint8]  # the same; uint8 counts as value / 255
SPREADS = ["none", "scalar", "dimension", "full"]
TOLERANCE = {torch.float32: 4e-6, torch.float64: 1e-12, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}
COMPILER = shutil.which("c++") or shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@functools.cache
def library() -> ctypes.CDLL:
    """Compile the library once for all processes and keep it in build/ until a source changes."""
    sources = sorted([*ROOT.glob("csrc/**/*.h"), *ROOT.glob("tests/csrc/*.h"), *ROOT.glob("tests/csrc/*.cpp")])
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    folder = ROOT / "build" / "emulated_grid"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest[:16]}.so"
    with FileLock(folder / "lock"):
        if not path.exists():
            for old in folder.glob("*.so"):
                old.unlink()
            unfinished = path.with_suffix(".unfinished")
            flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", f"-I{ROOT / 'csrc'}"]
            command = [str(COMPILER), *flags, str(ROOT / "tests/csrc/emulated_grid.cpp"), "-o", str(unfinished)]
            subprocess.run(command, check=True)
            unfinished.rename(path)
    return ctypes.CDLL(str(path))


def call(name: str, *args: Tensor | int | None) -> None:
    """Call a kernel of the library; tensors are passed as pointers."""
    converted = [ctypes.c_int64(a) if isinstance(a, int) else pointer(a) for a in args]
    assert getattr(library(), name)(*converted) == 0, "the emulated grid found divergent code around a shuffle"


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    assert x is None or x.is_contiguous()
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def key_of(first_row: int = 0) -> Tensor:
    return fastvae.noise_key(42, 3, first_row)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) * 7919 + len(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def alignments(x: Tensor) -> list[bool]:
    """Return the valid values of the aligned flag: True requires rows of whole packs at 16-byte addresses."""
    pack = 8 if x.element_size() == 2 else 4
    return [False, True] if x.shape[-1] % pack == 0 else [False]


def assert_near(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(found, wanted.detach(), rtol=tolerance, atol=2 * tolerance)
