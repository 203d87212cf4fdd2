"""Whether the CUDA library is loaded, and the reason if not: torch's CUDA version and the GPUs of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastvae.ops import _native, gpus
from fastvae.ops._native import why_not_cuda
from fastvae.ops.gpus import is_served

RECORD = {"cuda": True, "cuda_version": "13.0", "cuda_architectures": "7.5;8.0;9.0;10.0+PTX"}
# NVIDIA's management library with the GPUs of the variable GPUS, such as "9.0 8.6".
MANAGEMENT = """
#include <cstdio>
#include <cstdlib>
#include <cstring>
static const char* gpu(unsigned index) { return std::getenv("GPUS") + 4 * index; }
extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = (std::strlen(std::getenv("GPUS")) + 1) / 4; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) { *device = (void*)(size_t)(index + 1); return 0; }
int nvmlDeviceGetCudaComputeCapability(void* device, int* major, int* minor) {
  return std::sscanf(gpu((size_t)device - 1), "%d.%d", major, minor) == 2 ? 0 : 1;
}
}
"""


@pytest.mark.parametrize(
    ("capability", "architectures", "served"),
    [
        ((9, 0), "9.0", True),
        ((8, 6), "8.0;9.0", True),  # machine code of the same major version
        ((8, 0), "8.6", False),
        ((7, 5), "8.0+PTX", False),
        ((12, 0), "8.0;10.0", False),
        ((12, 0), "8.0;10.0+PTX", True),
        ((9, 0), "8.0+PTX", True),
        ((9, 0), "9.0a", True),
        ((10, 0), "9.0a+PTX", False),
        ((10, 3), "10.0a", False),
        ((10, 3), "10.0f", True),
        ((12, 1), "12.0", True),
    ],
)
def test_gpus_run_the_code_of_their_architecture(capability: tuple[int, int], architectures: str, served: bool) -> None:
    assert is_served(capability, architectures) is served


def test_the_cuda_library_fits() -> None:
    assert why_not_cuda(RECORD, "13.0", [(9, 0)]) is None
    assert why_not_cuda(RECORD, "13.2", []) is None  # a later minor version; a node without a GPU
    assert why_not_cuda(RECORD, "13.0", [(6, 1), (9, 0)]) is None


def test_the_cuda_library_does_not_fit() -> None:
    assert "not built (nvcc failed: no)" in str(why_not_cuda({"cuda_reason": "nvcc failed: no"}, "13.0", [(9, 0)]))
    assert "no record" in str(why_not_cuda({}, "13.0", [(9, 0)]))
    assert "a build without CUDA" in str(why_not_cuda(RECORD, None, []))
    assert "built with CUDA 13.0, and torch with CUDA 12.8" in str(why_not_cuda(RECORD, "12.8", [(9, 0)]))
    refusal = str(why_not_cuda(RECORD, "13.0", [(7, 0)]))
    assert "7.5;8.0;9.0;10.0+PTX" in refusal
    assert "TORCH_CUDA_ARCH_LIST=7.0" in refusal


Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python_with_gpus(tmp_path: Path) -> Runner:
    """Run Python as on a machine with the GPUs in the variable GPUS."""
    if shutil.which("c++") is None:
        pytest.skip("compiles a stand-in for NVIDIA's library: needs a C++ compiler")
    (tmp_path / "nvml.cpp").write_text(MANAGEMENT)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["c++", "-shared", "-fPIC", "-o", library, tmp_path / "nvml.cpp"], check=True)

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        env |= {"LD_LIBRARY_PATH": str(tmp_path), **environment}
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)

    return run


def test_the_gpus_are_found_without_cuda(python_with_gpus: Runner) -> None:
    code = f"import runpy; print(runpy.run_path({gpus.__file__!r})['compute_capabilities']())"  # without torch
    assert python_with_gpus(code, GPUS="9.0 8.6").stdout.strip() == "[(9, 0), (8, 6)]"
    assert python_with_gpus(code, GPUS="9.0 8.6", CUDA_VISIBLE_DEVICES="").stdout.strip() == "[]"


@pytest.mark.skipif(not _native.loaded, reason=f"no native library: {_native.reason}")
def test_a_gpu_without_kernels_is_reported_or_refused(python_with_gpus: Runner) -> None:
    code = "import torch; torch.version.cuda = '13.0'; from fastvae.ops import _native; print(_native.cuda_loaded)"
    reported = python_with_gpus(code, GPUS="6.1", FASTVAE_BACKEND="auto", RANK="0")
    assert reported.stdout.strip() == "False", reported.stderr
    assert reported.stderr.count("on the GPU fastvae runs its reference") == 1
    refused = python_with_gpus(code, GPUS="6.1", FASTVAE_BACKEND="native")
    assert "FASTVAE_BACKEND=native, but there are no CUDA kernels" in refused.stderr
