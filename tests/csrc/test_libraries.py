"""The libraries use torch's stable headers only, and no symbols of Python or of torch's C++ API."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import fastvae
from fastvae.ops import _native

CSRC = Path(__file__).parents[2] / "csrc"
TORCH = Path(torch.__file__).parent / "include"
LIBRARIES = sorted(Path(fastvae.__file__).parent.glob("libfastvae_*.so"))
SOURCES = sorted(path for path in [*CSRC.rglob("*.cpp"), *CSRC.rglob("*.cu")] if path.name != "module.cpp")
# Torch's stable API; under TORCH_STABLE_ONLY the headers of 2.10 to 2.12 refuse all others.
STABLE = ("torch/csrc/stable/", "torch/headeronly/", "torch/csrc/inductor/aoti_torch/c/")
STABLE += (
    "torch/csrc/inductor/aoti_torch/generated/c_shim_aten.h",
)  # C functions, which torch/csrc/stable/ops.h includes
COMPILER = os.environ.get("CXX") or shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="asks the preprocessor: needs a C++ compiler")
needs_libraries = pytest.mark.skipif(not _native.loaded, reason=f"no native library: {_native.reason}")


def unstable_headers(sources: list[Path]) -> list[str]:
    """Return the headers of torch, pybind11 or Python that the sources include, except torch's stable ones.

    Only the preprocessor runs. CUDA's own headers may be missing (-MG), and CUDA files are read as C++.
    """
    flags = ["-std=c++20", "-DUSE_CUDA", "-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command = [*shlex.split(str(COMPILER)), "-M", "-MG", "-x", "c++", *flags, f"-I{CSRC}", f"-I{TORCH}"]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    if done.returncode != 0:  # a header refuses inclusion by #error
        return [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
    headers = {word for word in done.stdout.replace("\\\n", " ").split() if not word.endswith(":")}
    of_torch = {header.split("/include/", 1)[1] for header in headers if header.startswith(f"{TORCH}/")}
    foreign = {header for header in headers if re.search(r"pybind11/|Python\.h$", header)}
    return sorted({header for header in of_torch if not header.startswith(STABLE)} | foreign)


@needs_compiler
def test_the_libraries_include_stable_headers_of_torch_only() -> None:
    assert len(SOURCES) > 10
    assert unstable_headers(SOURCES) == []


@needs_compiler
@pytest.mark.parametrize("header", ["ATen/core/ATen_fwd.h", "pybind11/pybind11.h", "Python.h", "c10/util/Exception.h"])
def test_an_unstable_header_is_found(tmp_path: Path, header: str) -> None:
    source = tmp_path / "cuda.cu"
    source.write_text(f"#include <{header}>\n")
    assert any(header in found or "#error" in found for found in unstable_headers([source]))


def undefined_symbols(library: Path) -> list[str]:
    done = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    return [line.split()[-1].split("@")[0] for line in done.stdout.splitlines()]


@needs_libraries
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs binutils")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_a_library_requires_c_functions_of_torch_and_no_python(library: Path) -> None:
    symbols = undefined_symbols(library)
    assert any(name.startswith("aoti_torch_") for name in symbols)
    assert [name for name in symbols if name.startswith(("Py", "_Py"))] == []
    unstable = re.compile(r"_ZN?K?(2at|3c10|5torch|8pybind11)")
    assert [name for name in symbols if unstable.match(name)] == []


@needs_libraries
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs binutils")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_a_library_does_not_link_python_specific_parts_of_torch(library: Path) -> None:
    said = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", said))
    assert {name for name in needed if "torch" in name or "c10" in name} <= {"libtorch_cpu.so", "libtorch_cuda.so"}
    assert not re.search(r"\((RPATH|RUNPATH)\)", said)
