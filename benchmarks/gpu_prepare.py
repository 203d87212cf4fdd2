"""The first part of run_gpu.sh: make a working copy of this source tree, with the kit's packages and libraries.

``python benchmarks/gpu_prepare.py TREE SITE --device cuda --kit .gpu`` fills TREE (source tree) and SITE (packages).
The original tree is not modified. The script imports only the standard library.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_kit import build_libraries, copy_tree, source_digest, versions, why_not_native

MODULES = {
    "numpy": "numpy",
    "tyro": "tyro",
    "rich": "rich",
    "tensorboard": "tensorboard",
    "safetensors": "safetensors",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "dacite": "dacite",
    "filelock": "filelock",
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "pytest_timeout": "pytest-timeout",
    "pytest_benchmark": "pytest-benchmark",
    "hypothesis": "hypothesis",
}


def why_not_kit(kit: Path, found: dict[str, str]) -> str | None:
    """The reason why the kit cannot be used with this interpreter, or None if it can."""
    if not (kit / "kit.json").exists():
        return f"there is no complete kit in {kit} (make gpu-kit)"
    made = json.loads((kit / "kit.json").read_text())
    different = [f"{name} {made[name]}, not {found[name]}" for name in found if made[name] != found[name]]
    return f"the kit is for {'; '.join(different)}" if different else None


def install_wheels(kit: Path, site: Path) -> None:
    """Install the kit's wheels in a separate folder, so that the machine's packages are not changed."""
    options = ["-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    wheels = map(str, sorted(kit.glob("wheels/*.whl")))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, f"--target={site}", *wheels], check=True)


def check_packages(site: Path) -> None:
    """Check that all packages are installed.

    Raises:
        SystemExit: a package is missing.
    """
    sys.path.append(str(site))
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise SystemExit(
            f"run_gpu.sh: {sys.executable} lacks {', '.join(missing)}: install them with pip, or copy the kit that "
            "`make gpu-kit` makes on another machine"
        )


def provide_libraries(tree: Path, site: Path, kit: Path, device: str, refused: str | None) -> str:
    """Provide the tree with native operators: its own, the kit's, or built on this machine; returns a description."""

    def why_not() -> str | None:
        return why_not_native(sys.executable, tree, device, site)

    reason = why_not() if list((tree / "fastvae").glob("*.so")) else "there are none"
    if reason is None:
        return "the libraries of this tree were loaded"
    print(f"the libraries of this tree cannot be used: {reason}", flush=True)
    made = json.loads((kit / "kit.json").read_text()) if refused is None else {}
    if refused is None and made["sources"] != source_digest(tree):
        refused = "the kit was built from other sources in csrc"
    if refused is None:
        for path in (kit / "libraries").iterdir():
            shutil.copy2(path, tree / "fastvae")
        refused = why_not()
        if refused is None:
            return "the kit's libraries were loaded"
    print(f"the kit's libraries cannot be used: {refused}", flush=True)
    if device == "cpu" and why_not():
        return "a dry run builds no libraries: the reference is used"
    program = 'import torch; print("%d.%d" % torch.cuda.get_device_capability())'
    capability = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    build_libraries(sys.executable, tree, capability.strip(), site)
    if reason := why_not():
        raise SystemExit(f"run_gpu.sh: the libraries were built on this machine but cannot be used: {reason}")
    return f"libraries were built on this machine for {capability.strip()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--kit", type=Path, required=True)
    options = parser.parse_args()
    found = versions(sys.executable)
    print(f"{platform.platform()}: {found}", flush=True)
    refused = why_not_kit(options.kit, found)
    options.site.mkdir(parents=True, exist_ok=True)
    if refused is None:
        install_wheels(options.kit, options.site)
    else:
        print(f"the kit's packages are not used: {refused}", flush=True)
    check_packages(options.site)
    copy_tree(options.tree)
    print(provide_libraries(options.tree, options.site, options.kit, options.device, refused), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
