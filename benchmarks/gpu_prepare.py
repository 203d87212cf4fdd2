"""The first part of run_gpu.sh: a copy of this tree that runs here, with the kit's packages and libraries or its own.

``python benchmarks/gpu_prepare.py TREE SITE --device cuda --kit .gpu`` fills TREE (this tree) and SITE (packages).
Nothing is written into this tree. No torch is imported, and no package but the standard library.
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
    """Why the kit is of no use to this interpreter; None where it fits."""
    if not (kit / "kit.json").exists():
        return f"there is no finished kit in {kit} (make gpu-kit)"
    made = json.loads((kit / "kit.json").read_text())
    odd = [f"{name} {made[name]} and not {found[name]}" for name in found if made[name] != found[name]]
    return f"the kit is for {', '.join(odd)}" if odd else None


def install_wheels(kit: Path, site: Path) -> None:
    """Into a folder of their own: the machine's packages stay as they are."""
    options = ["-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    wheels = map(str, sorted(kit.glob("wheels/*.whl")))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, f"--target={site}", *wheels], check=True)


def check_packages(site: Path) -> None:
    """End with a sentence where a package is missing."""
    sys.path.append(str(site))
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise SystemExit(
            f"run_gpu.sh: {sys.executable} lacks {', '.join(missing)}: pip install them, or carry the kit that "
            "`make gpu-kit` makes elsewhere"
        )


def provide_libraries(tree: Path, site: Path, kit: Path, device: str, refused: str | None) -> str:
    """Native operators for the tree: its own, the kit's, or built here; returns which."""

    def why_not() -> str | None:
        return why_not_native(sys.executable, tree, device, site)

    reason = why_not() if list((tree / "fastvae").glob("*.so")) else "there are none"
    if reason is None:
        return "the libraries of this tree load"
    print(f"this tree's own libraries do not serve: {reason}", flush=True)
    made = json.loads((kit / "kit.json").read_text()) if refused is None else {}
    if refused is None and made["sources"] != source_digest(tree):
        refused = "the kit was made from other sources in csrc"
    if refused is None:
        for path in (kit / "libraries").iterdir():
            shutil.copy2(path, tree / "fastvae")
        refused = why_not()
        if refused is None:
            return "the kit's libraries load"
    print(f"the kit's libraries do not serve: {refused}", flush=True)
    if device == "cpu" and why_not():
        return "a dry run builds nothing: the reference runs"
    program = 'import torch; print("%d.%d" % torch.cuda.get_device_capability())'
    capability = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    build_libraries(sys.executable, tree, capability.strip(), site)
    if reason := why_not():
        raise SystemExit(f"run_gpu.sh: the libraries were built here but do not serve {reason}")
    return f"libraries were built here for {capability.strip()}"


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
        print(f"no packages of a kit: {refused}", flush=True)
    check_packages(options.site)
    copy_tree(options.tree)
    print(provide_libraries(options.tree, options.site, options.kit, options.device, refused), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
