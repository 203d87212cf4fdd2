"""The diagnosis: what is installed, which backend runs and why, and what to run to fix what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from fastvae._version import __version__
from fastvae.data.pixels.mnist import FASHION_MNIST, MNIST, load_published
from fastvae.ops import Backend, backend, native
from fastvae.ops.gpus import is_served

_PACKAGES = ("torch", "numpy", "safetensors", "tensorboard", "scikit-learn", "matplotlib", "tyro", "rich")
_BUILT_WITH = ("torch", "compiler", "cuda_version", "cuda_architectures")
_DEEPSPEED_FROM, _DEEPSPEED_BELOW = "0.19.8", "0.20"  # as in pyproject.toml: the strategy depends on internals
_CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    topic: str
    name: str
    value: str
    remedy: str | None = None
    """Command or setting that fixes it; None if nothing is missing."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report; ``str(report)`` is the output of ``fastvae doctor``."""

    findings: tuple[Finding, ...]
    backends: tuple[Backend, ...]

    def __str__(self) -> str:
        lines: list[str] = []
        topics: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            topics[finding.topic].append(finding)
        for topic, findings in topics.items():
            lines += [topic, *(f"  {finding.name:18} {finding.value}" for finding in findings)]
            if topic == "operators":
                lines += _backend_lines(self.backends)
        remedies = [f"  {finding.name:18} {finding.remedy}" for finding in self.findings if finding.remedy]
        return "\n".join([*lines, "to fix", *(remedies or ["  nothing: all that this machine supports is here"])])


def report() -> Report:
    """Inspect this installation and this machine; nothing is changed, downloaded or compiled."""
    findings = [*_versions(), *_operators(), *_cpu(), *_cuda(), *_distributed(), *_data()]
    return Report(findings=tuple(findings), backends=backend())


def report_text() -> str:
    """Return ``report()`` as text."""
    return str(report())


def _backend_lines(backends: tuple[Backend, ...]) -> Iterator[str]:
    """Yield a line per operator; then the reasons for the backends of each device."""
    by_operator: dict[str, dict[str, str]] = defaultdict(dict)
    reasons: dict[tuple[str, str, str], int] = defaultdict(int)
    for found in backends:
        by_operator[found.operator][found.device] = found.name
        reasons[found.device, found.name, found.reason] += 1
    for operator, devices in by_operator.items():
        yield f"  {operator:36} " + "   ".join(f"{device} {name:9}" for device, name in devices.items()).rstrip()
    for (device, name, reason), count in reasons.items():
        yield f"  {device} {name}, {count} of {len(by_operator)}: {reason}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    source = "" if _version("fastvae") else " (not installed: a source tree)"
    yield Finding(topic="versions", name="fastvae", value=f"{__version__}, in {Path(__file__).parent}{source}")
    yield Finding(topic="versions", name="python", value=f"{platform.python_version()}, {sys.executable}")
    yield Finding(topic="versions", name="system", value=platform.platform())
    for package in _PACKAGES:
        found = torch.__version__ if package == "torch" else _version(package)  # its metadata omit the build
        remedy = None if found else f"pip install {package}"
        yield Finding(topic="versions", name=package, value=found or "missing", remedy=remedy)


def _operators() -> Iterator[Finding]:
    value = f"{'native' if native.loaded else 'reference'}: {native.reason}"
    yield Finding(topic="operators", name="backend", value=value, remedy=_native_remedy())
    built_with = {name: native.build_info.get(name) for name in _BUILT_WITH}
    if native.loaded:
        known = ", ".join(f"{name} {value}" for name, value in built_with.items() if value)
        yield Finding(topic="operators", name="built with", value=known or "no record")


def _native_remedy() -> str | None:
    if native.loaded:
        return None
    if os.environ.get("FASTVAE_BACKEND") == "reference":
        return "unset FASTVAE_BACKEND (or set it to auto) to load the native library"
    build = f"in the source tree: {native.BUILD_COMMAND}"
    if any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
        return build
    return f"install a C++ compiler (Debian, Ubuntu: apt-get install g++), then {build}"


def _cpu() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(topic="cpu", name="cores", value=f"{cores} usable, torch uses {torch.get_num_threads()} threads")
    yield Finding(topic="cpu", name="features", value=" ".join(_cpu_features()) or "unknown")
    kernels = native.build_info.get("cpu_capability", "reference")
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding(topic="cpu", name="kernels", value=f"fastvae {kernels}, torch {capability}")


def _cpu_features() -> list[str]:
    """Return the vector instructions that Linux reports; [] on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return []
    flags = next((line.split(":")[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [feature for feature in _CPU_FEATURES if feature in flags]


def _cuda() -> Iterator[Finding]:
    built, visible = torch.version.cuda, torch.cuda.is_available()
    driver = Path("/proc/driver/nvidia/version").exists()
    remedy = None
    if built is None and driver:
        remedy = "this machine has an NVIDIA driver: install a CUDA build of torch"
    elif built is not None and driver and not visible:
        remedy = "run nvidia-smi: the driver may be older than torch's CUDA; see also CUDA_VISIBLE_DEVICES"
    value = f"built for CUDA {built}" if built else "a build without CUDA"
    yield Finding(topic="cuda", name="torch", value=value, remedy=remedy)
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = properties.total_memory / 2**30
        capability = f"{properties.major}.{properties.minor}"
        value = f"{properties.name}, {memory_gib:.0f} GiB, compute capability {capability}"
        served = is_served((properties.major, properties.minor), str(native.build_info.get("cuda_architectures")))
        remedy = f"in the source tree: TORCH_CUDA_ARCH_LIST={capability} {native.BUILD_COMMAND}"
        missing = native.cuda_loaded and not served  # with a supported GPU
        yield Finding(topic="cuda", name=f"device {index}", value=value, remedy=remedy if missing else None)
    if not visible:
        yield Finding(topic="cuda", name="devices", value="none")
    yield Finding(topic="cuda", name="nvcc", value=_nvcc())
    yield _cuda_kernels(visible)


def _cuda_kernels(visible: bool) -> Finding:
    # Missing kernels are an error only if there is a GPU.
    wanted = visible and not native.cuda_loaded
    remedy = f"with the CUDA toolkit (nvcc), in the source tree: {native.BUILD_COMMAND}" if wanted else None
    value = "loaded" if native.cuda_loaded else f"not loaded: {native.cuda_reason}"
    return Finding(topic="cuda", name="kernels", value=value, remedy=remedy)


def _nvcc() -> str:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return "not on PATH"
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    release = next(
        (line.split("release")[1].split(",")[0].strip() for line in said.splitlines() if "release" in line), ""
    )
    return f"{release or 'of unknown release'}, {nvcc}"


def _distributed() -> Iterator[Finding]:
    if dist.is_available():
        checks = {"gloo": dist.is_gloo_available, "nccl": dist.is_nccl_available, "mpi": dist.is_mpi_available}
        value = ", ".join(name for name, is_available in checks.items() if is_available()) or "none"
    else:
        value = "not in this build of torch"
    yield Finding(topic="distributed", name="back ends", value=value)
    yield _deepspeed()


def _deepspeed() -> Finding:
    found = _version("deepspeed") if importlib.util.find_spec("deepspeed") else None
    install = "pip install 'fastvae[deepspeed]'"
    value, remedy = found or "not installed", None if found else f"optional: {install}"
    if found and not _numbers(_DEEPSPEED_FROM) <= _numbers(found) < _numbers(_DEEPSPEED_BELOW):
        value = f"{found}, an untested version"
        remedy = f"fastvae is tested with deepspeed>={_DEEPSPEED_FROM},<{_DEEPSPEED_BELOW}: {install}"
    return Finding(topic="distributed", name="deepspeed", value=value, remedy=remedy)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version, such as (0, 19, 8) of 0.19.8+cpu."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version.partition("+")[0])[:3])


def _data() -> Iterator[Finding]:
    folder = os.environ.get("FASTVAE_DATA")
    value, remedy = folder or "not set", None
    if folder and not Path(folder).expanduser().is_dir():
        value, remedy = f"{folder} does not exist", "set FASTVAE_DATA to an existing folder, or unset it"
    yield Finding(topic="data", name="FASTVAE_DATA", value=value, remedy=remedy)
    yield Finding(topic="data", name="digits", value="ships with scikit-learn")
    for published in (MNIST, FASHION_MNIST):
        try:
            train, test = load_published(published, download=False)
            value, remedy = f"found, {len(train)} train and {len(test)} test images", None
        except ValueError as error:
            value, remedy = "not usable", f"is downloaded when it is first used; by hand: {error}"
        yield Finding(topic="data", name=published.name, value=value, remedy=remedy)
