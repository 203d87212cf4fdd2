"""``make gpu-kit``: prepare .gpu/ for a machine with a GPU and without a network, on a machine without a GPU.

The kit contains the wheels of gpu_packages.txt and this source tree's libraries for Python 3.12, torch 2.11 (CUDA 13)
and sm_90. GPU_PYTHON names an interpreter with this torch; otherwise .gpu-venv/ is created (several GB). nvcc must be
on PATH.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KIT, GPU_VENV, WORK = ROOT / ".gpu", ROOT / ".gpu-venv", ROOT / "build" / "gpu-kit"
PYTHON_VERSION, TORCH_VERSION, ARCHITECTURES = "3.12", "2.11.0", "9.0"
LIMIT_MIB = 40
TREE = ("benchmarks", "csrc", "fastvae", "launch", "tests", "LICENSE", "README.md", "pyproject.toml", "setup.py")
BUILT = ("*.so", "_build_info.json")
COMPILED = (".h", ".cpp", ".cu")
NO_WHEEL = ("deepspeed",)  # is published as source only, from which a wheel can be built on any machine
PLATFORMS = ("2_17", "2_24", "2_27", "2_28", "2_31", "2_34", "2_35")
NOT_NATIVE = 9  # exit status of the following program if an operator is not native
LOADED = """
import sys
from fastvae import ops
missing = [b for b in ops.backend() if b.device == sys.argv[1] and b.name != "native"]
if missing:
    print(f"{sys.argv[1]}: no native {', '.join(b.operator for b in missing)} ({missing[0].reason})")
    sys.exit(int(sys.argv[2]))
"""


def source_digest(tree: Path) -> str:
    """A digest of the names and contents of the libraries' sources: csrc/ without its Python tools, and setup.py."""
    digest = hashlib.sha256()
    for path in sorted([*tree.glob("csrc/**/*"), tree / "setup.py"]):
        if path.is_file() and (path.suffix in COMPILED or path.name == "setup.py"):
            digest.update(f"{path.relative_to(tree).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def copy_tree(target: Path, *, without: Sequence[str] = ()) -> None:
    """Copy the files needed to build, run and test, with their times, so that a build compiles only changed files."""
    skipped = shutil.ignore_patterns("__pycache__", *without)
    for name in TREE:
        source, copy = ROOT / name, target / name
        if copy.is_dir():
            shutil.rmtree(copy)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=skipped)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def why_not_native(python: str, tree: Path, device: str, packages: Path | None = None) -> str | None:
    """The reason why not all of the tree's operators are native on the device, or None if they are.

    Raises:
        SystemExit: fastvae cannot be imported.
    """
    known = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join(str(path) for path in (tree, packages, known) if path)
    done = subprocess.run(
        [python, "-c", LOADED, device, str(NOT_NATIVE)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths, "FASTVAE_BACKEND": "auto"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    if done.returncode != NOT_NATIVE:
        raise SystemExit(f"{python} must be able to import fastvae; its error is\n{done.stderr.strip()}")
    return done.stdout.strip().splitlines()[-1]


def build_libraries(python: str, tree: Path, architectures: str, packages: Path | None = None) -> None:
    """Compile the kernels in the tree.

    Raises:
        subprocess.CalledProcessError: the build failed; its output was printed.
    """
    variables = {"FASTVAE_BUILD": "require", "TORCH_CUDA_ARCH_LIST": architectures}
    known = os.environ.get("PYTHONPATH")
    variables["PYTHONPATH"] = os.pathsep.join(str(path) for path in (packages, known) if path)
    command = [python, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env={**os.environ, **variables}, check=True)


def versions(python: str) -> dict[str, str]:
    """The versions that a kit must match: Python, PyTorch and the machine type."""
    program = (
        "import json, platform, sys, torch; print(json.dumps({'python': '%d.%d' % sys.version_info[:2],"
        " 'torch': torch.__version__, 'machine': platform.machine()}))"
    )
    done = subprocess.run([python, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"gpu-kit: {python} must be able to import torch; its error is\n{done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def pip(*words: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Run this interpreter's pip with little output."""
    command = [sys.executable, "-m", "pip", *map(str, words[:1]), "-q", "--disable-pip-version-check"]
    subprocess.run([*command, *map(str, words[1:])], env={**os.environ, **(environment or {})}, check=True)


def for_the_gpu_machine() -> list[str]:
    """Pip's options for wheels of the GPU machine's interpreter."""
    tags = [f"manylinux_{version}_x86_64" for version in PLATFORMS] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    platforms = [f"--platform={tag}" for tag in tags]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={PYTHON_VERSION}", "--implementation=cp"]
    return [*options, *platforms, f"--constraint={ROOT / 'constraints.txt'}"]


def fetch_wheels(folder: Path) -> None:
    """Download or build the wheels of gpu_packages.txt."""
    lines = (ROOT / "benchmarks" / "gpu_packages.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    built = [name for name in wanted if name.split("==")[0] in NO_WHEEL]
    pip("download", *for_the_gpu_machine(), f"--dest={folder}", *[name for name in wanted if name not in built])
    for name in built:
        options = ["--no-deps", "--no-build-isolation", f"--wheel-dir={folder}"]
        pip("wheel", *options, name, environment={"DS_BUILD_OPS": "0"})


def gpu_python() -> str:
    """The interpreter GPU_PYTHON, or that of .gpu-venv, which is created if it does not exist."""
    if named := os.environ.get("GPU_PYTHON"):
        return named
    python = GPU_VENV / "bin" / "python"
    if not (GPU_VENV / "ready").exists():
        base = shutil.which(f"python{PYTHON_VERSION}")
        # The program on PATH may be a launcher for an interpreter that is not installed.
        if base is None or subprocess.run([base, "--version"], capture_output=True, check=False).returncode != 0:
            raise SystemExit(
                f"gpu-kit: GPU_PYTHON must be set if there is no working python{PYTHON_VERSION} on PATH to create "
                f".gpu-venv with; set it to a Python {PYTHON_VERSION} that has torch {TORCH_VERSION} with CUDA"
            )
        print(f"gpu-kit: creating .gpu-venv with torch {TORCH_VERSION}, several GB", flush=True)
        subprocess.run([base, "-m", "venv", GPU_VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"torch=={TORCH_VERSION}"], check=True)
        (GPU_VENV / "ready").touch()
    return str(python)


def make_libraries(python: str, folder: Path) -> None:
    """Build the libraries in a copy of this tree and check that they can be loaded."""
    tree, tools = WORK / "tree", WORK / "tools"
    copy_tree(tree, without=BUILT)
    for pattern in BUILT:
        for stale in (tree / "fastvae").glob(pattern):
            stale.unlink()
    if not tools.is_dir():
        requires = re.search(r"^requires = (\[.*?\])", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
        assert requires is not None
        pip("install", *for_the_gpu_machine(), f"--target={tools}", "wheel", *ast.literal_eval(requires[1]))
    build_libraries(python, tree, os.environ.get("TORCH_CUDA_ARCH_LIST", ARCHITECTURES), tools)
    check_libraries(python, tree / "fastvae")
    folder.mkdir(parents=True)
    for pattern in BUILT:
        for path in (tree / "fastvae").glob(pattern):
            shutil.copy2(path, folder)


def check_libraries(python: str, folder: Path) -> None:
    """Check that both libraries exist and can be loaded by PyTorch, without importing fastvae or its dependencies.

    Raises:
        SystemExit: a library was not built, or cannot be loaded.
    """
    libraries = [folder / f"libfastvae_{device}.so" for device in ("cpu", "cuda")]
    missing = [path.name for path in libraries if not path.exists()]
    if missing:
        info = json.loads((folder / "_build_info.json").read_text())
        reason = info.get("reason") or info.get("cuda_reason")
        raise SystemExit(f"gpu-kit: {', '.join(missing)} could not be built for {python}: {reason}")
    program = "import sys, torch; [torch.ops.load_library(path) for path in sys.argv[1:]]"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program, *libraries], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"gpu-kit: {python} must be able to load {[path.name for path in libraries]}; its error is\n{done.stderr}"
        )


def size_mib(folder: Path) -> float:
    """The total size of the folder's files in MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def main() -> int:
    python = gpu_python()
    found = versions(python)
    wanted = {"python": PYTHON_VERSION, "torch": TORCH_VERSION, "machine": "x86_64"}
    if any(not found[name].startswith(value) for name, value in wanted.items()) or platform.machine() != "x86_64":
        raise SystemExit(f"gpu-kit: GPU_PYTHON must have {wanted}, got {found} from {python}")
    shutil.rmtree(KIT, ignore_errors=True)
    fetch_wheels(KIT / "wheels")
    make_libraries(python, KIT / "libraries")
    # Written last: a kit without this file is incomplete and is not used.
    (KIT / "kit.json").write_text(json.dumps({**found, "sources": source_digest(ROOT)}, indent=2) + "\n")
    if (size := size_mib(KIT)) > LIMIT_MIB:
        raise SystemExit(f"gpu-kit: .gpu must have at most {LIMIT_MIB} MiB, got {size:.1f}; see {KIT}")
    print(f"gpu-kit: .gpu has {size:.1f} MiB: {len(list(KIT.glob('wheels/*')))} wheels and the libraries for {found}")
    print("gpu-kit: on the GPU machine, run in a copy of this tree that contains .gpu (at most 8 files of results):")
    print('    RESULTS="${OUT:-runs/gpu}" bash benchmarks/run_gpu.sh')
    return 0


if __name__ == "__main__":
    sys.exit(main())
