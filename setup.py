"""Build fastvae, and its native library fastvae._C from csrc/.

FASTVAE_BUILD says how much the build matters:
    auto      (default) build where a C++ compiler and torch are found; else, or when the build fails, install without
              the library: the reference in plain PyTorch runs, and says why;
    require   fail loudly when the library cannot be built;
    off       do not try.
FASTVAE_SANITIZE, such as address,undefined, builds for a debugging run under the compiler's sanitizers.

What happened is written to fastvae/_build_info.json, which ships in the wheel: pip hides what this file prints.
torch is no build requirement on purpose: pip would download gigabytes into its isolated environment. The headers of the
torch in the target environment serve, and through torch's stable ABI (2.10) the library runs with every later torch.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CCompilerError, LinkError

ROOT = Path(__file__).resolve().parent
MODES = ("auto", "require", "off")
# No -march=native: the kernels choose their instruction set at run time. No -ffast-math: they are exact.
STABLE_ABI = ["-O3", "-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
CXX_FLAGS = [*STABLE_ABI, "-g0", "-Wall", "-fvisibility=hidden"]
NVCC_FLAGS = [*STABLE_ABI, "-DUSE_CUDA", "-Xcompiler", "-fvisibility=hidden"]
CUDA_ARCHITECTURES = ("8.0", "9.0", "10.0")
SANITIZERS = os.environ.get("FASTVAE_SANITIZE", "")
SANITIZE = [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-O1", "-g1"] if SANITIZERS else []
BUILD_ERRORS = (BaseError, CCompilerError, RuntimeError, OSError, subprocess.SubprocessError)
SEE_MORE = "for the compiler's messages run: FASTVAE_BUILD=require pip install -v --no-build-isolation ."


class Obstacle(Exception):
    """What keeps the native library from being built, in words for the user."""


def build_mode() -> str:
    """FASTVAE_BUILD, checked."""
    mode = os.environ.get("FASTVAE_BUILD") or "auto"
    if mode not in MODES:
        raise SystemExit(f"setup.py: FASTVAE_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def will_build() -> bool:
    """Whether the commands on this command line compile: metadata and sdists need not wait for torch's import."""
    return not {"build", "build_ext", "install", "develop", "bdist_wheel", "editable_wheel"}.isdisjoint(sys.argv)


def import_torch_extension() -> ModuleType:
    """Import torch.utils.cpp_extension, from the target environment where pip's isolated one has no torch."""
    try:
        import_module("torch")
    except ModuleNotFoundError:
        # In an isolated build sysconfig still names the folders of the environment that is installed into.
        for scheme in ("purelib", "platlib"):
            site.addsitedir(sysconfig.get_path(scheme))
    try:
        torch = import_module("torch")
        version = tuple(int(part) for part in torch.__version__.split(".")[:2])
        if version < (2, 10):
            raise Obstacle(f"torch {torch.__version__} is older than 2.10, whose stable ABI the kernels use")
        return import_module("torch.utils.cpp_extension")
    except ModuleNotFoundError as error:
        raise Obstacle(f"torch was not found at build time ({error})") from error
    except (ImportError, OSError) as error:
        raise Obstacle(f"torch does not import at build time ({error})") from error


def find_compiler() -> str:
    """The C++ compiler, which torch and setuptools are told of through CXX."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["c++", "g++", "clang++"]:
        if shutil.which(name.split()[0]):
            os.environ["CXX"] = name
            return name
    raise Obstacle(f"no C++ compiler on PATH ({wanted or 'c++, g++, clang++'})")


def put_ninja_on_path() -> None:
    """Make the ninja package's program visible: an environment that is not activated is not on PATH."""
    try:
        ninja = import_module("ninja")
    except ModuleNotFoundError:
        return  # a system ninja serves as well, and without one setuptools compiles file by file
    os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, os.environ.get("PATH", "")])


def find_cuda_home() -> None:
    """Set CUDA_HOME by nvcc's own word: torch takes the folder above it on PATH, where a wrapper may stand."""
    nvcc = shutil.which("nvcc")
    if nvcc is None or os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return
    command = [nvcc, "--dryrun", "-c", "-x", "cu", os.devnull, "-o", os.devnull]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    top = next((line.split("TOP=")[1].strip() for line in said.splitlines() if "TOP=" in line), None)
    if top is not None and Path(top).is_dir():
        os.environ["CUDA_HOME"] = str(Path(top).resolve())


def find_cuda(cpp: ModuleType) -> str | None:
    """Why the CUDA kernels are not built, or None where they are."""
    if cpp.torch.version.cuda is None:
        return "torch is a build without CUDA"
    if cpp.CUDA_HOME is None or not Path(cpp.CUDA_HOME, "bin", "nvcc").exists():
        return "nvcc was not found (CUDA_HOME, PATH)"
    if not list(ROOT.glob("csrc/*/cuda.cu")):
        return "csrc holds no CUDA kernels"
    return None


def choose_architectures(cpp: ModuleType) -> str:
    """TORCH_CUDA_ARCH_LIST; unset, the defaults that this nvcc knows, the newest also as PTX for later GPUs."""
    nvcc = str(Path(cpp.CUDA_HOME, "bin", "nvcc"))
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    chosen = [arch for arch in CUDA_ARCHITECTURES if f"compute_{arch.replace('.', '')}" in known]
    return os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ";".join(chosen) + "+PTX")


def native_extension(cpp: ModuleType, *, cuda: bool) -> Extension:
    """fastvae._C: only torch's stable libraries are linked, neither c10 nor torch_python."""
    patterns = ["csrc/*.cpp", "csrc/*/cpu.cpp", "csrc/common/cpu/*.cpp"] + (["csrc/*/cuda.cu"] if cuda else [])
    sources = sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
    if "csrc/module.cpp" not in sources:
        raise Obstacle("csrc/module.cpp is missing from this source tree")
    device = "cuda" if cuda else "cpu"
    return Extension(
        "fastvae._C",
        sources,
        include_dirs=[str(ROOT / "csrc"), *cpp.include_paths(device)],
        library_dirs=cpp.library_paths(device),
        libraries=["torch", "torch_cpu", *(["torch_cuda", "cudart"] if cuda else [])],
        define_macros=[
            ("FASTVAE_WITH_CUDA", str(int(cuda))),
            ("FASTVAE_BUILT_WITH_TORCH", f'"{cpp.torch.__version__}"'),
        ],
        extra_compile_args={"cxx": CXX_FLAGS + SANITIZE + (["-DUSE_CUDA"] if cuda else []), "nvcc": NVCC_FLAGS},
        extra_link_args=SANITIZE,
        language="c++",
    )


def write_info(homes: list[Path], info: dict[str, Any]) -> None:
    """Record in each package folder what was built, and remove the library of an earlier build where there is none."""
    for home in homes:
        home.mkdir(parents=True, exist_ok=True)
        (home / "_build_info.json").write_text(json.dumps(info, indent=2) + "\n")
        if not info["built"]:
            (home / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}").unlink(missing_ok=True)


def python_command(info: dict[str, Any]) -> type[build_py]:
    """The build_py command: the Python files, launch/ as the package's data, and the build's record."""

    class BuildPython(build_py):
        def run(self) -> None:
            built = Path(self.build_lib, "fastvae")
            if self.editable_mode:
                super().run()
                if not self.distribution.has_ext_modules():  # else build_ext knows more
                    write_info([ROOT / "fastvae"], info)
                return
            # setuptools never removes: a deleted module, or a library of an earlier build, would slip into the wheel.
            shutil.rmtree(built, ignore_errors=True)
            super().run()
            if (ROOT / "launch").is_dir():
                shutil.copytree(ROOT / "launch", built / "launch")
            write_info([built], info)

    return BuildPython


def native_command(base: type[build_ext], cpp: ModuleType | None, info: dict[str, Any]) -> type[build_ext]:
    """The build_ext command over torch's BuildExtension (setuptools' own where there is nothing to build)."""

    class BuildNative(base):  # type: ignore[misc, valid-type]
        def finalize_options(self) -> None:
            super().finalize_options()
            # One lasting folder, also for editable installs: ninja then compiles only what changed.
            tags = [sysconfig.get_platform(), str(sys.implementation.cache_tag), *SANITIZERS.split(",")]
            self.build_temp = str(ROOT / "build" / "-".join(["temp", *filter(None, tags)]))

        def run(self) -> None:
            homes = [Path(self.build_lib, "fastvae")] + ([ROOT / "fastvae"] if self.inplace else [])
            if self.extensions:
                self.build_or_explain()
            write_info(homes, info)

        def build_or_explain(self) -> None:
            try:
                self.build_with_or_without_cuda()
                info.update(built=True, reason=None)
            except BUILD_ERRORS as error:
                if info["mode"] == "require":
                    raise
                info.update(built=False, cuda=False, reason=f"the build failed: {self.first_error(error)}; {SEE_MORE}")

        def build_with_or_without_cuda(self) -> None:
            options = self.inplace, self.compiler
            try:
                super().run()
            except BUILD_ERRORS as error:
                if not info["cuda"] or info["mode"] == "require":
                    raise
                # A broken CUDA toolkit must not cost the CPU kernels.
                detail = self.first_error(error)
                info.update(cuda=False, cuda_architectures=None, cuda_reason=f"nvcc failed: {detail}; {SEE_MORE}")
                plain = native_extension(cpp, cuda=False)
                for name in ("sources", "include_dirs", "library_dirs", "libraries", "define_macros"):
                    setattr(self.extensions[0], name, getattr(plain, name))
                self.extensions[0].extra_compile_args = plain.extra_compile_args
                self.inplace, self.compiler = options  # setuptools overwrites both while it builds
                super().run()

        def first_error(self, error: Exception) -> str:
            if isinstance(error, LinkError):
                return "the linker failed"
            # torch's exception does not hold the compiler's words, so ninja is asked once more.
            command = ["ninja", "-C", self.build_temp]
            try:
                lines = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout.splitlines()
            except (OSError, subprocess.TimeoutExpired):
                lines = []
            return next((line.strip() for line in lines if "error" in line.lower()), str(error).strip())

    return BuildNative


def compiler_version(name: str) -> str:
    """The first line of `c++ --version`."""
    command = [*name.split(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def plan(info: dict[str, Any]) -> tuple[list[Extension], type[build_ext]]:
    """The extensions to build (none where something is in the way) and the command that builds them."""
    if not will_build():
        return [], build_ext
    try:
        if info["mode"] == "off":
            raise Obstacle("FASTVAE_BUILD=off was set when it was installed")
        compiler = find_compiler()
        find_cuda_home()  # before torch looks
        cpp = import_torch_extension()
        put_ninja_on_path()
        cuda_reason = find_cuda(cpp)
        info.update(torch=cpp.torch.__version__, compiler=compiler_version(compiler))
        info.update(cuda=cuda_reason is None, cuda_reason=cuda_reason)
        if info["cuda"]:
            info["cuda_architectures"] = choose_architectures(cpp)
        extension = native_extension(cpp, cuda=info["cuda"])
    except Obstacle as obstacle:
        if info["mode"] == "require":
            raise SystemExit(f"setup.py: FASTVAE_BUILD=require, but {obstacle}") from obstacle
        info.update(cuda=False, reason=str(obstacle))
        return [], native_command(build_ext, None, info)
    return [extension], native_command(cpp.BuildExtension, cpp, info)


build_info: dict[str, Any] = {
    "built": False,
    "reason": None,  # why there is no library
    "mode": build_mode(),
    "python": platform.python_version(),
    "torch": None,
    "compiler": None,
    "cuda": False,
    "cuda_reason": None,  # why there are no CUDA kernels
    "cuda_architectures": None,
}
extensions, build_native = plan(build_info)
setup(ext_modules=extensions, cmdclass={"build_ext": build_native, "build_py": python_command(build_info)})
