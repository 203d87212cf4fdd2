"""The native CPU library: known answers, and each instruction set of its kernels (in a separate process)."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest

from fastvae.ops import _native

native = pytest.mark.skipif(not _native.loaded, reason=f"no native library: {_native.reason}")

# Random123, tests/kat_vectors, and fastvae's own layout: key (42, 0) and counter (block, row, row >> 32, stream).
KNOWN_ANSWERS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
    ((1, 0, 0, 0), (42, 0), (0xFCDB2127, 0x53BA6CFD, 0x838F5A6E, 0x744E06FB)),
    ((0, 1, 0, 0), (42, 0), (0x42E0B8B3, 0x7DBF5DE8, 0x2FE739D4, 0x6AAF03EB)),
    ((0, 0, 1, 0), (42, 0), (0x02933769, 0x2051E913, 0x3B68B038, 0xB62C409C)),
    ((2**32 - 1, 0, 0, 0), (42, 0), (0x6E2412DE, 0x41D4EC95, 0x29DD3E0C, 0xAED56CFA)),
]

# Runs under one instruction set and prints the results. The reference is called by name: it never runs natively.
PROBE = """
import json, torch, fastvae
from fastvae import ops
from fastvae.ops import _native, reference
key = fastvae.noise_key(42, 3, 2**32 - 2)
torch.manual_seed(0)
capability = _native.build_info["cpu_capability"]
report = {"capability": capability, "integers": True, "uniforms": True, "normals": 0.0, "bits": True}
report |= {"z": {}, "kl": {}}
for rows, columns in [(1, 1), (3, 5), (5, 20), (4, 33), (3, 64), (2, 200), (2, 20001)]:
    expected = reference.philox_integers(key, rows, columns, 0)
    report["integers"] &= torch.equal(ops.philox_integers(key, rows, columns), expected)
    expected = reference.philox_uniform(key, rows, columns, 0)
    report["uniforms"] &= torch.equal(ops.philox_uniform(key, rows, columns), expected)
    normals = ops.philox_normal(key, rows, columns)
    expected = reference.philox_normal(key, rows, columns, 0, torch.float64)
    error = (normals - expected).abs().max().item()
    report["normals"] = max(report["normals"], error)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        mu, logvar = torch.randn(2, rows, columns).to(dtype)
        z, kl = ops.gaussian_rsample_kl(mu, logvar, key)
        exact = reference.gaussian_rsample_kl(mu.double(), logvar.double(), key, 0)
        scale = exact[0].abs().clamp_min(1)
        name = str(dtype)
        report["z"][name] = max(report["z"].get(name, 0), ((z - exact[0]).abs() / scale).max().item())
        report["kl"][name] = max(report["kl"].get(name, 0), ((kl - exact[1]).abs() / exact[1]).max().item())
        last = ops.gaussian_rsample_kl(mu[-1:], logvar[-1:], fastvae.noise_key(42, 3, 2**32 - 2 + rows - 1))
        torch.set_num_threads(3)
        again = ops.gaussian_rsample_kl(mu, logvar, key)
        torch.set_num_threads(1)
        report["bits"] &= all(map(torch.equal, (z, kl, z[-1:], kl[-1:]), (*again, *last)))
logvar = torch.linspace(-30, 20, 100_001).unsqueeze(1)
_, kl = ops.gaussian_rsample_kl(torch.zeros_like(logvar), logvar, key)
exact = reference.gaussian_rsample_kl(torch.zeros_like(logvar).double(), logvar.double(), key, 0)[1]
report["kl_everywhere"] = ((kl - exact).abs() / exact.clamp_min(1e-300)).nan_to_num(0).max().item()
report["kl_least"] = kl.min().item()
for dtype in (torch.bfloat16, torch.float16):  # every bit pattern through load and store
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).reshape(1, -1)
    z, _ = ops.gaussian_rsample_kl(patterns.clone(), torch.full_like(patterns, -1000.0), key)
    kept = z.nan_to_num(nan=1.5) == patterns.nan_to_num(nan=1.5)
    if capability == "avx512_bf16" and dtype == torch.bfloat16:  # the instruction has no subnormals
        kept |= (z == 0) & (patterns.abs() < torch.finfo(dtype).tiny)
    report["bits"] &= kept.all().item()
print(json.dumps(report))
"""


@pytest.fixture
def module() -> Any:
    """fastvae._C, which the package does not use."""
    return pytest.importorskip("fastvae._C", reason=f"no fastvae._C: {_native.build_info.get('module_reason')}")


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(
    module: Any, counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    assert tuple(module.philox4x32_10(list(counter), list(key))) == answer


@pytest.mark.parametrize("word", [0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
def test_extreme_words_give_finite_normals(module: Any, word: int) -> None:
    u = (word + 0.5) / 2**32
    radius = math.sqrt(-2 * (math.log(u) if u < 0.5 else math.log1p(-((2**32 - 1 - word) + 0.5) / 2**32)))
    for other in (0, 2**30, 2**32 - 1):
        cosine, sine = module.box_muller(word, other)
        angle = 2 * math.pi * (other + 0.5) / 2**32
        assert cosine == pytest.approx(radius * math.cos(angle), rel=0, abs=1e-5)
        assert sine == pytest.approx(radius * math.sin(angle), rel=0, abs=1e-5)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


@native
@pytest.mark.parametrize("capability", ["baseline", "avx2", "avx512", "avx512_bf16"])
def test_every_instruction_set_agrees(capability: str) -> None:
    ran = run_python(PROBE, FASTVAE_CPU_CAPABILITY=capability)
    if "this CPU does not run" in ran.stderr:
        pytest.skip(f"this CPU has no {capability}")
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    assert report["capability"] == capability
    assert report["integers"], "philox_integers must be the reference's, bit for bit"
    assert report["uniforms"], "philox_uniform must be the reference's, bit for bit"
    assert report["normals"] <= 1e-5
    assert report["bits"], "a row must not depend on threads or batch split, nor a value on its way through 16 bits"
    for dtype, bound in {"float32": 2e-6, "float64": 1e-13, "bfloat16": 2**-8, "float16": 2**-11}.items():
        assert report["z"][f"torch.{dtype}"] <= 1.001 * bound
        assert report["kl"][f"torch.{dtype}"] <= (1e-13 if dtype == "float64" else 1e-6)
    assert report["kl_everywhere"] <= 1e-6
    assert report["kl_least"] >= 0


@native
def test_unknown_instruction_set_is_refused() -> None:
    ran = run_python("import fastvae.ops", FASTVAE_CPU_CAPABILITY="sse9")
    assert ran.returncode != 0
    assert "must be baseline, avx2, avx512 or avx512_bf16, got sse9" in ran.stderr


def test_the_environment_selects_the_backend() -> None:
    report = "from fastvae.ops import _native; print(_native.loaded, _native.reason)"
    ran = run_python(report, FASTVAE_BACKEND="reference")
    assert ran.stdout.startswith("False FASTVAE_BACKEND=reference"), ran.stderr
    ran = run_python(report, FASTVAE_BACKEND="fast")
    assert "FASTVAE_BACKEND must be one of auto, native, reference, got 'fast'" in ran.stderr


# A loader that fails, as with an old C++ runtime.
REFUSED = """
import torch
def refuse(path):
    raise OSError("planted: " + path)
torch.ops.load_library = refuse
"""


def test_native_without_a_library_is_an_error_with_a_remedy() -> None:
    ran = run_python(REFUSED + "import fastvae.ops", FASTVAE_BACKEND="native")
    assert ran.returncode != 0
    assert "FASTVAE_BACKEND=native, but libfastvae_cpu.so" in ran.stderr
    assert not _native.loaded or "planted: " in ran.stderr
    assert _native.BUILD_COMMAND in ran.stderr


def test_the_fallback_is_reported_once_on_rank_zero() -> None:
    ran = run_python(REFUSED + "import fastvae.ops, fastvae.ops.philox", FASTVAE_BACKEND="auto", RANK="0")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("runs its reference") == 1
    assert _native.BUILD_COMMAND in ran.stderr
    ran = run_python(REFUSED + "import fastvae.ops", FASTVAE_BACKEND="auto", RANK="1")
    assert ran.returncode == 0, ran.stderr
    assert "reference" not in ran.stderr
