from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from fastvae import ops
from fastvae.ops import reference
from tests.ops.cases import ROOT, gaussian, native_on_cpu, python

NATIVE = [b.operator for b in ops.backend() if b.device == "cpu" and b.name == "native"]
no_native = pytest.mark.skipif(not NATIVE, reason=f"no native kernel is loaded: {ops.backend()[0].reason}")


def test_every_operator_reports_its_backend_and_the_reason() -> None:
    records = ops.backend()
    assert {b.operator for b in records} >= {"gaussian_rsample_kl", "gaussian_rsample_kl_backward", "philox_normal"}
    for record in records:
        assert record.device in {"cpu", "cuda"}
        assert record.name in {"native", "reference"}
        assert record.reason


# Slow: statistics of draws whose bits are the same in both backends (test_native_and_reference_agree), and repetitions
# with other numbers of threads, which the kernels' own run shows.
REPEATED = "moments or tails or given_tensor or do_not_depend_on_threads"


@no_native
@pytest.mark.parametrize(
    "chosen", [f"not ({REPEATED})", pytest.param(REPEATED, marks=pytest.mark.slow)], ids=["values", "repeated"]
)
def test_the_reference_passes_the_same_tests(chosen: str) -> None:
    """The tests of this folder run on the loaded backend; if that is native, this test runs them on the reference.

    Tests of torch.compile and of the dispatcher are excluded: they are slow and do not depend on the backend.
    """
    files = [f"tests/ops/test_{operator}.py" for operator in NATIVE]
    files = [file for file in files if (ROOT / file).exists()] + ["tests/ops/test_philox.py"]
    words = ["-m", "pytest", "-q", "-x", "-k", f"not opcheck and not compiles and ({chosen})", *files]
    run = python(words, FASTVAE_BACKEND="reference")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def test_the_reference_can_be_chosen() -> None:
    code = "from fastvae import ops; print({(b.name, b.reason) for b in ops.backend()})"
    run = python(["-c", code], FASTVAE_BACKEND="reference")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "{('reference', 'FASTVAE_BACKEND=reference')}"


def test_an_unknown_backend_is_refused_by_name() -> None:
    run = python(["-c", "import fastvae.ops"], FASTVAE_BACKEND="fast")
    assert run.returncode != 0
    assert "FASTVAE_BACKEND must be one of auto, native, reference, got 'fast'" in run.stderr


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package, whose libraries a test may damage."""
    shutil.copytree(
        ROOT / "fastvae", tmp_path / "fastvae", ignore=shutil.ignore_patterns("__pycache__", "*.so", "_build_info.json")
    )
    return tmp_path


def test_a_library_that_does_not_load_is_reported_with_the_loaders_message(copied: Path) -> None:
    (copied / "fastvae" / "libfastvae_cpu.so").write_text("no library")
    code = f"import sys; sys.path.insert(0, {str(copied)!r}); from fastvae import ops; print(ops.backend()[0].reason)"
    run = python(["-c", code], FASTVAE_BACKEND="auto", RANK="")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("libfastvae_cpu.so does not load (")
    assert "file too short" in run.stdout  # the message of dlopen
    assert "file too short" in run.stderr  # the warning


def test_a_damaged_build_record_is_reported(copied: Path) -> None:
    (copied / "fastvae" / "_build_info.json").write_text('{"bu')
    run = python(["-c", f"import sys; sys.path.insert(0, {str(copied)!r}); import fastvae.ops"])
    assert run.returncode != 0
    assert "_build_info.json must hold JSON" in run.stderr.splitlines()[-1]
    assert "install fastvae again" in run.stderr


@no_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_native_and_reference_agree(dtype: torch.dtype) -> None:
    mu, logvar = gaussian((65, 131), dtype)
    key = ops.noise_key(3, 1, 2**32 - 7)
    assert torch.equal(ops.philox_integers(key, 65, 131), reference.philox_integers(key, 65, 131, 0))
    assert torch.equal(ops.philox_uniform(key, 65, 131), reference.philox_uniform(key, 65, 131, 0))
    z, kl = ops.gaussian_rsample_kl(mu, logvar, key, stream=6)
    expected_z, expected_kl = reference.gaussian_rsample_kl(mu, logvar, key, 6)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(z, expected_z, rtol=0, atol=tolerance)
    torch.testing.assert_close(kl, expected_kl, rtol=tolerance, atol=0)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_the_reference_itself_can_be_compiled() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(reference.philox_integers, fullgraph=True)  # by inductor, which may fold integers
    key = ops.noise_key(1, 2, 3)
    assert torch.equal(compiled(key, 6, 50, 3), reference.philox_integers(key, 6, 50, 3))


def test_the_requested_backend_is_used() -> None:
    if os.environ.get("FASTVAE_BACKEND") == "native":
        assert native_on_cpu("gaussian_rsample_kl")
    if os.environ.get("FASTVAE_BACKEND") == "reference":
        assert not native_on_cpu("gaussian_rsample_kl")
