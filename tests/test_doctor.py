"""`fastvae doctor` reports versions, backends and data, and the remedy for each problem."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastvae import doctor, ops
from fastvae.ops import _native

ROOT = Path(__file__).parents[1]
EVERY_TOPIC = ["versions", "operators", "cpu", "cuda", "distributed", "data"]


def finding(name: str) -> doctor.Finding:
    return next(found for found in doctor.report().findings if found.name == name)


def test_the_report_covers_all_topics_and_lists_all_operators_with_their_backends() -> None:
    report = doctor.report()
    assert list(dict.fromkeys(found.topic for found in report.findings)) == EVERY_TOPIC
    text = str(report)
    for backend in ops.backend():
        line = next(line for line in text.splitlines() if line.split()[0] == backend.operator)
        assert f"{backend.device} {backend.name}" in line
        assert backend.reason in text


def test_versions_are_those_in_use() -> None:
    assert finding("torch").value == torch.__version__
    assert sys.executable in finding("python").value
    assert str(Path(doctor.__file__).parent) in finding("fastvae").value


def test_a_missing_package_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("torch", "no-such-package-here"))
    found = finding("no-such-package-here")
    assert (found.value, found.remedy) == ("missing", "pip install no-such-package-here")


def test_the_reference_backend_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "loaded", False)
    monkeypatch.setattr(_native, "reason", "libfastvae_cpu.so does not load (planted)")
    monkeypatch.delenv("FASTVAE_BACKEND", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    found = finding("backend")
    assert found.value == "reference: libfastvae_cpu.so does not load (planted)"
    assert found.remedy is not None
    assert _native.BUILD_COMMAND in found.remedy

    monkeypatch.setenv("PATH", "")
    assert "install a C++ compiler" in str(finding("backend").remedy)

    monkeypatch.setenv("FASTVAE_BACKEND", "reference")
    assert "unset FASTVAE_BACKEND" in str(finding("backend").remedy)


def test_missing_cuda_kernels_have_a_remedy_only_if_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_native, "cuda_loaded", False)
    monkeypatch.setattr(_native, "cuda_reason", "of another CUDA (planted)")
    for visible in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=visible: answer)
        (found,) = (one for one in doctor.report().findings if (one.topic, one.name) == ("cuda", "kernels"))
        assert found.value == "not loaded: of another CUDA (planted)"
        assert (found.remedy is not None) == visible


def test_the_data_folder_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTVAE_DATA", str(tmp_path / "missing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "does not exist" in finding("FASTVAE_DATA").value
    assert finding("mnist").value == "not usable"
    assert "train-images-idx3-ubyte.gz" in str(finding("mnist").remedy)

    monkeypatch.setenv("FASTVAE_DATA", str(tmp_path))
    assert finding("FASTVAE_DATA").remedy is None


def test_the_report_ends_with_the_remedies() -> None:
    broken = doctor.Finding(topic="cpu", name="cores", value="none", remedy="buy some")
    fine = doctor.Finding(topic="cpu", name="cores", value="2")
    assert str(doctor.Report(findings=(broken,), backends=())).splitlines()[-2:] == [
        "to fix",
        f"  {'cores':18} buy some",
    ]
    assert "nothing" in str(doctor.Report(findings=(fine,), backends=())).splitlines()[-1]


def test_the_report_writes_no_files(tmp_path: Path) -> None:
    code = "from fastvae.doctor import report_text; print(report_text())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "to fix" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "tried"), [("0.19.8", True), ("0.19.9+cpu", True), ("0.19.7", False), ("0.20.0", False)]
)
def test_an_untested_deepspeed_version_is_reported_with_its_remedy(
    version: str, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(doctor, "_version", lambda _: version)
    found = finding("deepspeed")
    assert found.value.startswith(version)
    assert (found.remedy is None) == tried == ("untested" not in found.value)
    # The range agrees with pyproject.toml.
    requirement = next(
        line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("deepspeed")
    )
    assert tried or re.findall(r"[\d.]+\d", found.remedy or "") == re.findall(r"[\d.]+\d", requirement)[:2]
