"""Real installations by all methods, offline and from a copy: each package reports its backend and the reason for it.

The copy's csrc is a stub of a few lines, because these tests are about setup.py; `make setup` builds the real one.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
LIBRARY = """
#include <torch/csrc/stable/library.h>
#if !defined(TORCH_STABLE_ONLY) || TORCH_TARGET_VERSION != 0x020a000000000000 || defined(__AVX512F__)
#error "setup.py must build for the stable ABI of torch 2.10 and for every CPU"
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT const char* fastvae_cpu_capability(const char**) { return "stub"; }
"""
MODULE = """
#include <Python.h>
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", "", -1, nullptr};
PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
"""
PROBE = """
import json, fastvae
from fastvae.ops import _native, backend
print(json.dumps({"file": fastvae.__file__, "loaded": _native.loaded, "reason": _native.reason,
                  "build": _native.build_info, "backends": sorted({b.name for b in backend()})}))
"""

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="builds the library: needs a C++ compiler")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, like a clone, with the stub of csrc."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "Makefile", "constraints.txt"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, copy)
    built = shutil.ignore_patterns("__pycache__", "*.so", "_build_info.json")
    shutil.copytree(ROOT / "fastvae", copy / "fastvae", ignore=built)
    (copy / "csrc").mkdir(parents=True)
    (copy / "csrc" / "library.cpp").write_text(LIBRARY)
    (copy / "csrc" / "module.cpp").write_text(MODULE)
    (copy / "launch").mkdir()
    (copy / "launch" / "local.sh").write_text("echo a launcher\n")
    return copy


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of pyproject.toml's build requirements, packed from this environment, so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("setuptools", "ninja", "pybind11"):
        found = importlib.metadata.distribution(name)
        tags = [line.split()[1] for line in str(found.read_text("WHEEL")).splitlines() if line.startswith("Tag:")]
        home = f"{name}-{found.version}"
        records = []
        with zipfile.ZipFile(folder / f"{home}-{tags[0]}.whl", "w") as wheel:
            for file in found.files or []:
                script = f"{home}.data/scripts/{file.name}" if ".." in file.parts else str(file)
                if "__pycache__" not in file.parts and file.name != "RECORD":
                    wheel.write(file.locate(), script)
                    records.append(f"{script},,")
            wheel.writestr(f"{home}.dist-info/RECORD", "\n".join([*records, f"{home}.dist-info/RECORD,,\n"]))
    return folder


@pytest.fixture
def no_compiler(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH contains a shell but no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(folder), "CXX": "", "CC": ""}


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment without this machine's and the caller's build settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "FASTVAE_"))}
    merged = {**inherited, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", **environment}
    merged = {name: value for name, value in merged.items() if value}
    return subprocess.run(command, cwd=cwd, env=merged, capture_output=True, text=True, check=False, timeout=200)


def pip(*arguments: str, cwd: Path, python: str = sys.executable, **environment: str) -> str:
    """Run pip and return its output; fails with the output if pip fails."""
    other = [] if python == sys.executable else ["--python", python]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *other, *arguments]
    done = run(command, cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def installed(tree: Path, target: Path, *arguments: str, python: str = sys.executable, **environment: str) -> dict:
    """Install the package in a folder and return the facts that it reports outside of the checkout."""
    pip("install", "--no-deps", "--target", str(target), *arguments, ".", cwd=tree, python=python, **environment)
    return probed(target)


def probe(target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the probe with the package in a folder; -S disables an editable install of the checkout."""
    path = os.pathsep.join([str(target), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return run([sys.executable, "-S", "-c", PROBE], target.parent, PYTHONPATH=path, **environment)


def probed(target: Path) -> dict:
    done = probe(target)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert Path(facts["file"]).parent == target / "fastvae"
    facts["stderr"] = done.stderr
    return facts


def assert_reference(facts: dict, reason: str) -> None:
    """Check that the package uses the reference, and that its build record and warning give the reason and a remedy."""
    assert (facts["loaded"], facts["backends"], facts["build"]["built"]) == (False, ["reference"], False)
    assert reason in facts["build"]["reason"]
    assert reason in facts["reason"]
    assert reason in facts["stderr"]
    assert "pip install" in facts["stderr"]


@needs_compiler
def test_isolated_build_uses_torch_of_the_target_environment(tree: Path, wheelhouse: Path, tmp_path: Path) -> None:
    facts = installed(tree, tmp_path / "site", PIP_FIND_LINKS=str(wheelhouse))
    assert facts["loaded"], facts
    assert facts["build"]["torch"] == torch.__version__
    assert facts["build"]["cpu_capability"] == "stub"
    assert facts["build"]["module"], facts


@needs_compiler
def test_a_second_build_compiles_nothing(tree: Path, tmp_path: Path) -> None:
    facts = installed(tree, tmp_path / "site", "--no-build-isolation")
    assert facts["loaded"], facts

    def objects() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tree / "build").rglob("*.o")}

    before = objects()
    assert before
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path)]
    assert run(command, tree).returncode == 0
    assert objects() == before


def test_install_without_a_compiler(tree: Path, tmp_path: Path, no_compiler: dict[str, str]) -> None:
    facts = installed(tree, tmp_path / "site", "--no-build-isolation", **no_compiler)
    assert_reference(facts, "no C++ compiler on PATH")


def test_install_without_torch(tree: Path, wheelhouse: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    facts = installed(tree, tmp_path / "site", python=python, PIP_FIND_LINKS=str(wheelhouse), CXX=sys.executable)
    assert_reference(facts, "torch was not found at build time")


def test_install_with_build_off(tree: Path, tmp_path: Path) -> None:
    facts = installed(tree, tmp_path / "site", "--no-build-isolation", FASTVAE_BUILD="off")
    assert_reference(facts, "FASTVAE_BUILD=off")
    refused = probe(tmp_path / "site", FASTVAE_BACKEND="native")
    assert refused.returncode != 0
    assert "FASTVAE_BUILD=off" in refused.stderr


def compiler_that_fails(folder: Path, when: str) -> str:
    """A C++ compiler that fails if its arguments match a shell pattern."""
    script = folder / f"broken-{len(list(folder.iterdir()))}-c++"  # a new name, because ninja compares commands
    refuse = f'case "$*" in {when}) echo planted error: no >&2; exit 1;; esac'
    script.write_text(f'#!/bin/sh\n{refuse}\nexec {shutil.which("c++")} "$@"\n')
    script.chmod(0o755)
    return str(script)


@needs_compiler
@pytest.mark.parametrize("when", ["*library.cpp*", "*-shared*cpu.so*"])
def test_the_compilers_error_is_reported(tree: Path, tmp_path: Path, when: str) -> None:
    compiler = compiler_that_fails(tmp_path, when)
    facts = installed(tree, tmp_path / "site", "--no-build-isolation", CXX=compiler)
    assert_reference(facts, "planted error: no")


@needs_compiler
def test_an_undefined_symbol_fails_the_build(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns("build"))
    caller = (
        'void missing_kernel();\nextern "C" __attribute__((visibility("default"))) void call() { missing_kernel(); }\n'
    )
    (copy / "csrc" / "caller.cpp").write_text(caller)
    assert build(copy, tmp_path / "lib")["built"] is False
    assert "missing_kernel" in build(copy, tmp_path / "lib")["reason"]


@needs_compiler
def test_the_kernels_do_not_need_the_module(tree: Path, tmp_path: Path) -> None:
    compiler = compiler_that_fails(tmp_path, "*module.cpp*")
    facts = installed(tree, tmp_path / "site", "--no-build-isolation", CXX=compiler)
    assert (facts["loaded"], facts["build"]["module"]) == (True, False)
    assert "planted error: no" in facts["build"]["module_reason"]


def build(tree: Path, home: Path, **environment: str) -> dict:
    """Build in a folder and return the build record."""
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(home)]
    done = run(command, tree, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((home / "fastvae" / "_build_info.json").read_text())


def pretend_cuda(folder: Path, *, torch_cuda: str, release: str) -> dict[str, str]:
    """The environment of a build with a simulated CUDA version of torch, and an nvcc that always fails to compile."""
    home = Path(torch.__file__).parent
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").touch()
    (folder / "torch" / "version.py").write_text(f"__version__, cuda = {torch.__version__!r}, {torch_cuda!r}\n")
    for name in ("include", "lib"):
        (folder / "torch" / name).symlink_to(home / name)
    nvcc = folder / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(f"""#!/bin/sh
case "$*" in
    --version) echo "Cuda compilation tools, release {release}, V{release}.88";;
    --list-gpu-arch) echo compute_75; echo compute_80; echo compute_90; echo compute_120;;
    *) echo "$@" >> {folder}/log; echo "planted error: no" >&2; exit 1;;
esac
""")
    nvcc.chmod(0o755)
    path = os.pathsep.join([str(nvcc.parent), os.environ["PATH"]])
    return {"PYTHONPATH": str(folder), "PATH": path, "TORCH_CUDA_ARCH_LIST": "", "CUDA_HOME": "", "CUDA_PATH": ""}


@pytest.fixture
def cuda_tree(tree: Path, tmp_path: Path) -> Path:
    """A copy of the checkout with a CUDA source file."""
    copy = tmp_path / "checkout"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns("build"))
    (copy / "csrc" / "op").mkdir(exist_ok=True)
    (copy / "csrc" / "op" / "cuda.cu").touch()
    return copy


@needs_compiler
def test_a_failing_nvcc_omits_the_cuda_kernels_only(cuda_tree: Path, tmp_path: Path) -> None:
    settings = pretend_cuda(tmp_path / "cuda", torch_cuda="13.0", release="13.1")
    record = build(cuda_tree, tmp_path / "lib", **settings)
    assert (record["built"], record["cuda"], record["cuda_version"]) == (True, False, "13.1")
    assert "planted error: no" in record["cuda_reason"]
    assert [path.name for path in (tmp_path / "lib" / "fastvae").glob("lib*.so")] == ["libfastvae_cpu.so"]
    calls = (tmp_path / "cuda" / "log").read_text()
    for number in ("75", "80", "90"):
        assert f"arch=compute_{number},code=sm_{number}" in calls
    assert "arch=compute_90,code=compute_90" in calls
    assert "compute_100" not in calls  # this nvcc does not support it

    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "lib")]
    assert run(command, cuda_tree, FASTVAE_BUILD="require", **settings).returncode != 0


@needs_compiler
def test_an_nvcc_of_another_major_version_is_not_used(cuda_tree: Path, tmp_path: Path) -> None:
    record = build(cuda_tree, tmp_path / "lib", **pretend_cuda(tmp_path / "cuda", torch_cuda="12.8", release="13.0"))
    assert (record["built"], record["cuda"]) == (True, False)
    assert all(version in record["cuda_reason"] for version in ("CUDA 13.0", "CUDA 12.8"))
    assert not (tmp_path / "cuda" / "log").exists()


@needs_compiler
def test_architectures_are_selected_and_validated(cuda_tree: Path, tmp_path: Path) -> None:
    settings = pretend_cuda(tmp_path / "cuda", torch_cuda="13.0", release="13.0")
    record = build(cuda_tree, tmp_path / "lib", **{**settings, "TORCH_CUDA_ARCH_LIST": "8.6 9.0a;12.0+PTX"})
    assert record["cuda_architectures"] == "8.6;9.0a;12.0+PTX"
    calls = (tmp_path / "cuda" / "log").read_text()
    for code in ("compute_86,code=sm_86", "compute_90a,code=sm_90a", "compute_120,code=compute_120"):
        assert f"arch={code}" in calls
    record = build(cuda_tree, tmp_path / "lib", **{**settings, "TORCH_CUDA_ARCH_LIST": "Ampere"})
    assert all(words in record["cuda_reason"] for words in ("TORCH_CUDA_ARCH_LIST", "got 'Ampere'"))


def test_require_fails_without_a_compiler(tree: Path, tmp_path: Path, no_compiler: dict[str, str]) -> None:
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path)]
    done = run(command, tree, FASTVAE_BUILD="require", **no_compiler)
    assert done.returncode != 0
    assert all(words in done.stderr for words in ("FASTVAE_BUILD=require", "no C++ compiler on PATH"))
    done = run(command, tree, FASTVAE_BUILD="yes")
    assert re.search("FASTVAE_BUILD .*got 'yes'", done.stderr)


@needs_compiler
def test_require_fails_if_the_compiler_fails(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path)]
    for when in ("*library.cpp*", "*module.cpp*", "*-shared*"):
        compiler = compiler_that_fails(tmp_path, when)
        assert run(command, tree, FASTVAE_BUILD="require", CXX=compiler).returncode != 0


@needs_compiler
def test_in_place_build_removes_stale_libraries(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    for setting in ({"FASTVAE_BUILD": "off"}, {"CXX": compiler_that_fails(tmp_path, "*-shared*")}):
        (tree / "fastvae" / "_C.cpython-39-old.so").touch()  # contained the kernels in the past
        (tree / "fastvae" / "libfastvae_cuda.so").touch()
        assert run(command, tree).returncode == 0
        built = {"libfastvae_cpu.so", f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"}
        assert {path.name for path in (tree / "fastvae").glob("*.so")} == built
        assert run(command, tree, **setting).returncode == 0
        assert not list((tree / "fastvae").glob("*.so"))
        assert not json.loads((tree / "fastvae" / "_build_info.json").read_text())["built"]


@needs_compiler
def test_wheel_contents(tree: Path, tmp_path: Path) -> None:
    stale = tree / "fastvae" / "stale.py"
    stale.write_text("")
    build = ("wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), ".")
    pip(*build, cwd=tree, FASTVAE_BUILD="off")
    stale.unlink()
    (stale_wheel,) = tmp_path.glob("fastvae-*-py3-none-any.whl")
    stale_wheel.unlink()  # without a library it works on every machine
    pip(*build, cwd=tree)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {"fastvae/py.typed", "fastvae/_build_info.json", "fastvae/launch/local.sh"} <= set(names)
    built = ["fastvae/_C", "fastvae/libfastvae_cpu"]
    assert sorted(name.split(".")[0] for name in names if name.endswith(".so")) == built
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "stale" in name or name.startswith(("csrc", "tests"))]
    assert "Requires-Dist: torch>=2.10" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert "fastvae = fastvae.cli:main" in scripts


def test_sdist_contains_all_files_of_a_build(tree: Path, tmp_path: Path) -> None:
    for header in ("philox.h", "common/kernels.h", "op/cuda.cu", "compile_check.sh"):
        path = tree / "csrc" / header
        path.parent.mkdir(exist_ok=True)
        path.touch()
    done = run([sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path)], tree)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = (path for path in tmp_path.glob("fastvae-*") if path.is_dir())
    files = {str(path.relative_to(tree)) for path in (tree / "csrc").rglob("*") if path.is_file()}
    assert "csrc/op/cuda.cu" in files
    for name in [*files, "launch/local.sh", "setup.py", "LICENSE", "fastvae/py.typed"]:
        assert (source / name).is_file(), name
    assert not (source / "fastvae" / "_build_info.json").exists()
    facts = installed(source, tmp_path / "site", "--no-build-isolation", FASTVAE_BUILD="off")
    assert_reference(facts, "FASTVAE_BUILD=off")


# The command line without an installed distribution named fastvae.
NOT_INSTALLED = """
import importlib.metadata as metadata, sys
version_of = metadata.version
def version(name):
    if name == "fastvae":
        raise metadata.PackageNotFoundError(name)
    return version_of(name)
metadata.version = version
from fastvae.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_source_tree_trains_without_metadata(tree: Path, tmp_path: Path) -> None:
    options = ["--train.steps=2", "--train.final-samples=1", "--model.hidden-dim=8", f"--run-dir={tmp_path / 'run'}"]
    command = [sys.executable, "-c", NOT_INSTALLED, "train", "digits", *options]
    done = run(command, tmp_path, PYTHONPATH=str(tree), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_setup_runs_again_only_if_the_sources_change(tree: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "constraints.txt", "setup.py", "pyproject.toml"):
        shutil.copy2(tree / name, tmp_path)
    for source in (tmp_path / "csrc" / "library.cpp", tmp_path / "fastvae" / "_version.py"):
        source.parent.mkdir()
        source.touch()
    (tmp_path / ".venv").mkdir()

    def is_done() -> bool:
        return run(["make", "--question", "setup"], tmp_path).returncode == 0

    assert not is_done()
    for stamp in (".installed", ".built-native", ".built-reference"):
        (tmp_path / ".venv" / stamp).touch()
    assert is_done()
    later = (tmp_path / ".venv" / ".built-native").stat().st_mtime + 10
    os.utime(tmp_path / "csrc" / "library.cpp", (later, later))
    assert not is_done()
