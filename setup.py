"""Build fastvae: its Python files, and from csrc/, with ninja, up to three shared objects inside the package.

    libfastvae_cpu.so     the CPU kernels: every .cpp of csrc except module.cpp
    libfastvae_cuda.so    the CUDA kernels: every .cu, if torch is a CUDA build and nvcc has the same major version
    _C.<python>.so        module.cpp: known answers for the tests, if pybind11 is installed; fastvae works without it
The libraries contain no Python symbol and use only torch's stable ABI of 2.10, so one build works with every Python and
every later torch.

FASTVAE_BUILD controls the build:
    auto      (default) build if a C++ compiler, ninja and torch are found; otherwise, or if the build fails, install
              without the libraries: the reference in plain PyTorch then runs and reports the reason;
    require   fail if a library cannot be built;
    off       do not try.
TORCH_CUDA_ARCH_LIST, such as 8.0;9.0+PTX, selects the GPUs, CXX the compiler; MAX_JOBS limits the number of processes.
FASTVAE_SANITIZE, such as address,undefined, builds for a debugging run under the compiler's sanitizers.

The outcome is written to fastvae/_build_info.json, which ships in the wheel, because pip hides what this file prints.
torch is deliberately not a build requirement: pip would download gigabytes into its isolated environment. The build
uses the headers of the torch in the target environment, and does not import it. This is one file because pip runs it
without this folder on Python's path.
"""

from __future__ import annotations

import json
import os
import platform
import re
import runpy
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
MODES = ("auto", "require", "off")
CPU, CUDA, MODULE = "libfastvae_cpu.so", "libfastvae_cuda.so", f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
# No -march=native: the kernels choose their instruction set at run time. No -ffast-math: they are exact. -fwrapv, which
# setuptools compiles with, was used for all measurements; without it gcc 12 generates 7 % more code.
STABLE_ABI = ["-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
CXX_FLAGS = ["-O3", "-DNDEBUG", "-g0", "-fwrapv", "-Wall", "-fPIC", "-fvisibility=hidden", "-std=c++20"]
NVCC_FLAGS = ["-O3", "-DUSE_CUDA", "-std=c++20", "--expt-relaxed-constexpr"]
NVCC_FLAGS += ["-Xcompiler=-fPIC,-fvisibility=hidden"]
CUDA_ARCHITECTURES = ("7.5", "8.0", "9.0", "10.0")
SANITIZERS = os.environ.get("FASTVAE_SANITIZE", "")
SANITIZE = [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-O1", "-g1"] if SANITIZERS else []
SEE_MORE = "for the compiler's messages run: FASTVAE_BUILD=require pip install -v --no-build-isolation ."


# The plan of the build, from top to bottom


def main() -> None:
    """Plan the build, and pass its commands to setuptools."""
    info: dict[str, Any] = {
        "built": False,
        "reason": None,  # reason why there are no CPU kernels
        "mode": build_mode(),
        "python": platform.python_version(),
        "torch": None,
        "torch_target_version": "2.10",
        "compiler": None,
        "cuda": False,
        "cuda_reason": None,  # reason why there are no CUDA kernels
        "cuda_version": None,  # version of nvcc
        "cuda_architectures": None,
        "module": False,
        "module_reason": None,  # reason why there is no fastvae._C
    }
    native = plan(info) if will_build() else None
    setup(
        # An extension tells setuptools that the wheel is for this platform; ninja builds it and the libraries.
        ext_modules=[Extension("fastvae._C", ["csrc/module.cpp"])] if native else [],
        cmdclass={"build_ext": native_command(native, info), "build_py": python_command(info)},
    )


def build_mode() -> str:
    """Return the validated FASTVAE_BUILD."""
    mode = os.environ.get("FASTVAE_BUILD") or "auto"
    if mode not in MODES:
        raise SystemExit(f"setup.py: FASTVAE_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def will_build() -> bool:
    """Whether the commands of this command line compile; metadata and sdists do not require a compiler."""
    return not {"build", "build_ext", "install", "develop", "bdist_wheel", "editable_wheel"}.isdisjoint(sys.argv)


def plan(info: dict[str, Any]) -> NinjaFile | None:
    """Return the build file, or None if nothing is built; ``info`` records the reason for each omitted part."""
    ninja = NinjaFile()
    try:
        if info["mode"] == "off":
            raise Obstacle("FASTVAE_BUILD=off was set when it was installed")
        compiler, torch = find_compiler(), find_torch()
        find_ninja()
        info.update(torch=torch.version, compiler=output_of(*compiler.split(), "--version").splitlines()[0])
        with optional(info, "cuda_reason"):  # first, because its files take the longest time
            add_cuda(ninja, torch, info)
        add_cpu(ninja, torch)
        with optional(info, "module_reason"):
            add_module(ninja)
    except Obstacle as obstacle:
        if info["mode"] == "require":
            raise SystemExit(f"setup.py: FASTVAE_BUILD=require, but {obstacle}") from obstacle
        info["reason"] = str(obstacle)
        return None
    return ninja


@contextmanager
def optional(info: dict[str, Any], reason: str) -> Iterator[None]:
    """A part that may be omitted; ``info[reason]`` records the reason."""
    try:
        yield
    except Obstacle as obstacle:
        info[reason] = str(obstacle)


class Obstacle(Exception):
    """The reason why a part cannot be built, as a message for the user."""


# The three shared objects


def add_cpu(ninja: NinjaFile, torch: Torch) -> None:
    """libfastvae_cpu.so."""
    sources = sorted(path for path in ROOT.glob("csrc/**/*.cpp") if path.name != "module.cpp")
    if not sources:
        raise Obstacle("csrc is missing from this source tree")
    command = cxx_command(*STABLE_ABI, f"-I{ROOT / 'csrc'}", f"-I{torch.home / 'include'}")
    # With clang the program, not the library, defines the symbols of the sanitizers.
    strict = [] if SANITIZERS else ["-Wl,--no-undefined"]
    ninja.add(CPU, sources, command, link_command(*strict, f"-L{torch.home / 'lib'}", "-ltorch_cpu"))


def add_cuda(ninja: NinjaFile, torch: Torch, info: dict[str, Any]) -> None:
    """libfastvae_cuda.so, or an Obstacle."""
    sources = sorted(ROOT.glob("csrc/**/*.cu"))
    if not sources:
        raise Obstacle("csrc contains no CUDA kernels")
    nvcc, info["cuda_version"] = find_nvcc(torch)
    architectures = choose_architectures(nvcc)
    info["cuda_architectures"] = ";".join(architectures)
    chosen = os.environ.get("CXX")  # otherwise nvcc selects the host compiler
    host = [f"-ccbin={chosen}"] if chosen and " " not in chosen else []
    include = [f"-I{ROOT / 'csrc'}", f"-I{torch.home / 'include'}"]
    command = [nvcc, *NVCC_FLAGS, *STABLE_ABI, *host, *architecture_flags(architectures), *include]
    # --cudart=shared: all copies of libcudart of one major version have the same soname, so the loader reuses the one
    # that torch has loaded, and the process has one CUDA runtime.
    link = [nvcc, "-shared", "--cudart=shared", *host, "$in", "-Xlinker=--no-undefined"]
    link += [f"-L{torch.home / 'lib'}", "-ltorch_cpu", "-ltorch_cuda"]
    ninja.add(CUDA, sources, command, link)


def add_module(ninja: NinjaFile) -> None:
    """fastvae._C, or an Obstacle; the Python interpreter defines the symbols that are missing at link time."""
    if find_spec("pybind11") is None:
        raise Obstacle("pybind11 was not found at build time (pip install pybind11)")
    folders = [ROOT / "csrc", import_module("pybind11").get_include(), sysconfig.get_path("include")]
    ninja.add(MODULE, [ROOT / "csrc" / "module.cpp"], cxx_command(*(f"-I{path}" for path in folders)), link_command())


def cxx_command(*flags: object) -> list[str]:
    """Return the compiler command with the user's flags, followed by those of this file."""
    theirs = [*os.environ.get("CPPFLAGS", "").split(), *os.environ.get("CXXFLAGS", "").split()]
    return [*find_compiler().split(), *theirs, *CXX_FLAGS, *SANITIZE, *map(str, flags)]


def link_command(*libraries: str) -> list[str]:
    """The command that links objects to a shared object."""
    theirs = os.environ.get("LDFLAGS", "").split()
    return [*find_compiler().split(), "-shared", *SANITIZE, *theirs, "$in", *libraries]


# The commands of setuptools


def native_command(ninja: NinjaFile | None, info: dict[str, Any]) -> type[build_ext]:
    """The build_ext command."""

    class BuildNative(build_ext):
        def run(self) -> None:
            # A permanent folder, also for editable installs: ninja then compiles changed files only.
            tags = [sysconfig.get_platform(), str(sys.implementation.cache_tag), *SANITIZERS.split(",")]
            built = []
            if ninja is not None:
                built = build(ninja, ROOT / "build" / "-".join(["temp", *filter(None, tags)]), info)
                names = {path.name for path in built}
                info.update(built=CPU in names, cuda=CUDA in names, module=MODULE in names)
            for home in self.homes():
                install(home, built, info)

        def homes(self) -> list[Path]:
            return [Path(self.build_lib, "fastvae"), *([ROOT / "fastvae"] if self.inplace else [])]

        def get_outputs(self) -> list[str]:
            home = self.homes()[0]
            return [str(path) for path in (*home.glob("*.so"), *home.glob("_build_info.json"))]

        def get_output_mapping(self) -> dict[str, str]:
            return {}

    return BuildNative


def python_command(info: dict[str, Any]) -> type[build_py]:
    """The build_py command: the Python files, launch/ as the package's data, and the build's record."""

    class BuildPython(build_py):
        def run(self) -> None:
            built = Path(self.build_lib, "fastvae")
            if self.editable_mode:
                super().run()
                if not self.distribution.has_ext_modules():  # otherwise build_ext writes the record
                    install(ROOT / "fastvae", [], info)
                return
            # setuptools never deletes files: deleted modules and libraries of earlier builds would be in the wheel.
            shutil.rmtree(built, ignore_errors=True)
            super().run()
            if (ROOT / "launch").is_dir():
                shutil.copytree(ROOT / "launch", built / "launch")
            install(built, [], info)

    return BuildPython


def build(ninja: NinjaFile, folder: Path, info: dict[str, Any]) -> list[Path]:
    """Run ninja and return the built files. The failure of one target does not stop the others."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.ninja").write_text("\n".join(ninja.lines) + "\n")
    jobs = [f"-j{os.environ['MAX_JOBS']}"] if os.environ.get("MAX_JOBS") else []
    command = [find_ninja(), "-C", str(folder), *jobs]
    subprocess.run([*command, "-k0"], check=False)
    built = []
    for target in ninja.targets:
        again = subprocess.run([*command, target], capture_output=True, text=True, check=False)
        if again.returncode == 0:
            built.append(folder / target)
            continue
        if info["mode"] == "require":
            raise CompileError(f"{target}: {again.stdout}{again.stderr}")
        prefix = {CPU: "", CUDA: "cuda_", MODULE: "module_"}[target]
        info[f"{prefix}reason"] = f"the build failed: {first_error(again.stdout)}; {SEE_MORE}"
    return built


def first_error(output: str) -> str:
    """The first error of the compiler or the linker in ninja's output."""
    lines = [line.strip() for line in output.splitlines()]
    errors = [line for line in lines if re.search(r"\berror\b|\bfatal\b|undefined reference", line, re.IGNORECASE)]
    return next((line for line in errors if " -c " not in line), lines[-1] if lines else "ninja printed nothing")


def install(home: Path, built: list[Path], info: dict[str, Any]) -> None:
    """Copy the built files and their record into a package folder, and remove the libraries of earlier builds."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "_build_info.json").write_text(json.dumps(info, indent=2) + "\n")
    for path in built:
        shutil.copy2(path, home / f"{path.name}.new")
        (home / f"{path.name}.new").replace(home / path.name)  # replaced, not overwritten: a process may use it
    kept = {path.name for path in built}
    for stale in [*home.glob("libfastvae_*.so"), *home.glob("_C*.so")]:
        if stale.name not in kept:
            stale.unlink()


# The text of build.ninja


class NinjaFile:
    """The text of build.ninja, and the files that it builds."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.targets: list[str] = []

    def add(self, target: str, sources: list[Path], compile_command: list[str], link_command: list[str]) -> None:
        """Add a shared object of these sources; ``$in`` in the link command is its objects."""
        name = target.split(".")[0]
        compiles = f"{self.command(compile_command)} -c $in -o $out -MD -MF $out.d"
        self.lines += [f"rule compile-{name}", f"  command = {compiles}", "  description = $out"]
        self.lines += ["  depfile = $out.d", "  deps = gcc"]
        links = f"{self.command(link_command)} -o $out"
        self.lines += [f"rule link-{name}", f"  command = {links}", "  description = $out"]
        objects = []
        for source in sources:
            objects.append(str(Path(name, source.relative_to(ROOT / "csrc")).with_suffix(".o")))
            self.lines += [f"build {objects[-1]}: compile-{name} {self.path(source)}"]
        self.lines += [f"build {target}: link-{name} {' '.join(objects)}"]
        self.targets.append(target)

    @staticmethod
    def command(words: list[str]) -> str:
        return " ".join(word if word == "$in" else shlex.quote(word).replace("$", "$$") for word in words)

    @staticmethod
    def path(path: Path) -> str:
        return re.sub(r"([$ :])", r"$\1", str(path))


# The environment


@dataclass(frozen=True, kw_only=True)
class Torch:
    """The PyTorch that the libraries are compiled and linked against."""

    home: Path
    version: str
    cuda: str | None


def find_torch() -> Torch:
    """Return the torch of this environment, or of the one that pip's isolated build installs into."""
    if find_spec("torch") is None:
        # In an isolated build sysconfig still returns the folders of the target environment.
        for scheme in ("purelib", "platlib"):
            site.addsitedir(sysconfig.get_path(scheme))
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        raise Obstacle("torch was not found at build time")
    home = Path(spec.origin).parent
    version = runpy.run_path(str(home / "version.py"))
    if tuple(int(part) for part in version["__version__"].split(".")[:2]) < (2, 10):
        raise Obstacle(f"torch {version['__version__']} is older than 2.10, whose stable ABI the kernels use")
    return Torch(home=home, version=version["__version__"], cuda=version["cuda"])


def find_compiler() -> str:
    """The C++ compiler's command."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["c++", "g++", "clang++"]:
        if shutil.which(name.split()[0]):
            return name
    raise Obstacle(f"no C++ compiler on PATH ({wanted or 'c++, g++, clang++'})")


def find_ninja() -> str:
    """Return the program of the ninja package (an inactive environment is not on PATH), or the system's."""
    found = str(Path(import_module("ninja").BIN_DIR, "ninja")) if find_spec("ninja") else shutil.which("ninja")
    if found is None:
        raise Obstacle("ninja was not found at build time (pip install ninja)")
    return found


def find_nvcc(torch: Torch) -> tuple[str, str]:
    """The CUDA compiler and its version."""
    if torch.cuda is None:
        raise Obstacle("torch is a build without CUDA")
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which(str(Path(home, "bin", "nvcc")) if home else "nvcc")
    if nvcc is None:
        raise Obstacle("nvcc was not found (CUDA_HOME, PATH)")
    release = re.search(r"release (\d+\.\d+)", output_of(nvcc, "--version"))
    version = release[1] if release else "unknown"
    if version.split(".")[0] != torch.cuda.split(".")[0]:
        raise Obstacle(f"nvcc has CUDA {version} and torch has CUDA {torch.cuda}; their major versions must be equal")
    return nvcc, version


def choose_architectures(nvcc: str) -> list[str]:
    """Return TORCH_CUDA_ARCH_LIST, or the defaults that this nvcc supports, the newest also as PTX for later GPUs."""
    wanted = re.split(r"[;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip(" ;"))
    if wanted == [""]:
        known = output_of(nvcc, "--list-gpu-arch").split()
        wanted = [arch for arch in CUDA_ARCHITECTURES if f"compute_{arch.replace('.', '')}" in known]
        wanted[-1] += "+PTX"
    wrong = [arch for arch in wanted if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", arch)]
    if wrong:
        raise Obstacle(f"TORCH_CUDA_ARCH_LIST must contain numbers such as 8.0;9.0+PTX, got {wrong[0]!r}")
    return wanted


def architecture_flags(architectures: list[str]) -> list[str]:
    """The flags of nvcc: machine code for each architecture, and PTX for those with +PTX."""
    flags = []
    for architecture in architectures:
        number = architecture.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if architecture.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def output_of(*command: str) -> str:
    """Return the standard output of a program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Obstacle(f"{command[0]} fails ({error})") from error


if __name__ == "__main__":
    main()
