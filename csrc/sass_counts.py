"""Count what each CUDA kernel costs on sm_90, from its machine code: `python csrc/sass_counts.py [--source NAME ...]`.

Each source is compiled once (the result is kept under build/sass until a file that it includes, the flags or the
compiler change) and disassembled. The columns:

- instructions an element: the executed path (csrc/sass_path.py) of one thread, from entry to EXIT, over the elements
  that it makes. Where a warp shares a row, that is one lane's path over a row of the columns in csrc/sass_cases.py
  (512; 128 for importance samples, 784 pixels, 4096 items), so that the row's overhead is in it; else it is one pack.
- loop: the instructions of the loop over packs, all its branches counted, of which a thread takes some.
- bytes an element: the tensors' bytes, each read or written once.
- of copy: the share of the copy bandwidth that the kernel can reach, by the model of 132 SMs x 128 lanes x 1.98 GHz,
  of which 80 % issue, against 3.0 TB/s (H100) and 4.3 TB/s (H200); at most 0.9.

It fails where a kernel spills registers, where an aligned kernel stores a tensor in fewer than 16 bytes at a time,
and where an aligned kernel has no case. Needs nvcc, c++filt and nvdisasm (the package nvidia-cuda-nvdisasm).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sass import blocks_of, functions_of
from sass_cases import CASES, NAMES, Case
from sass_path import Path as Executed
from sass_path import Walker

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path(os.environ.get("FASTVAE_SASS_KEPT") or ROOT / "build" / "sass")
FLAGS = ["-arch=sm_90", "-O3", "-std=c++20", "-Xptxas", "-v", "-DUSE_CUDA", "-DTORCH_STABLE_ONLY"]
FLAGS += ["-DTORCH_TARGET_VERSION=0x020a000000000000", "--expt-relaxed-constexpr"]
ISSUED = 132 * 128 * 1.98e9 * 0.8  # thread-instructions a second
COPY = {"H100": 3.0e12, "H200": 4.3e12}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    case: Case
    dtype: str
    path: Executed
    body: int
    """Instructions of the loop over packs, with all branches of which a thread takes some."""
    registers: int
    spilled: int

    @property
    def instructions(self) -> float:
        """Instructions an element."""
        return self.path.instructions / self.case.elements(self.dtype)

    @property
    def bytes_moved(self) -> int:
        """Bytes an element."""
        return self.case.bytes_per_element(self.dtype)

    def of_copy(self, device: str) -> float:
        """The share of the copy bandwidth that the model gives."""
        return min(0.9, self.bytes_moved / COPY[device] / (self.instructions / ISSUED))

    def widths(self) -> str:
        """Loads and stores of the path."""
        return ", ".join(f"{count} {opcode}" for opcode, count in sorted(self.path.accesses().items()))

    def trouble(self) -> str | None:
        """What is wrong with the kernel."""
        stores = {opcode: count for opcode, count in self.path.accesses().items() if opcode.startswith("STG")}
        whole = sum(16 * count for opcode, count in stores.items() if ".128" in opcode)
        needed = self.case.stored(self.dtype)
        if whole < needed:
            return f"stores {whole} of {needed} bytes a thread 16 at a time (STG.128); found {stores}"
        return None


def disassembler() -> str:
    """The path of nvdisasm: of its package, or of the toolkit."""
    package = importlib.util.find_spec("nvidia")
    for home in package.submodule_search_locations or [] if package else []:
        for path in Path(home).glob("cu*/bin/nvdisasm"):
            return str(path)
    found = shutil.which("nvdisasm")
    if found is None:
        raise SystemExit(
            "sass_counts: nvdisasm was not found; install nvidia-cuda-nvdisasm, or put the CUDA toolkit's on PATH"
        )
    return found


def run(*command: str) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sass_counts: {' '.join(command[:3])} ... failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A source's machine code."""

    text: str
    """Its disassembly."""
    report: str
    """What ptxas says of registers."""


def compile_source(source: str) -> Compiled:
    """The machine code of csrc/<source>/cuda.cu, from build/sass where nothing that it is made of has changed."""
    KEPT.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "sass_counts: torch, whose headers the kernels include, was not found in this Python's environment"
        )
    nvcc, include = os.environ.get("NVCC", "nvcc"), Path(spec.origin).parent / "include"
    kept, cubin, listed = KEPT / f"{source}.json", KEPT / f"{source}.cubin", KEPT / f"{source}.d"
    fixed = [run(nvcc, "--version"), (include.parent / "version.py").read_text(), *FLAGS]

    def stamp(files: list[str]) -> str:
        digest = hashlib.sha256("\0".join(fixed).encode())
        for file in files:
            path = ROOT / file
            digest.update(file.encode() + (path.read_bytes() if path.exists() else b""))
        return digest.hexdigest()

    if kept.exists():
        known = json.loads(kept.read_text())
        if known["stamp"] == stamp(known["files"]):
            return Compiled(text=known["text"], report=known["report"])
    report = run(
        *(nvcc, "-cubin", f"csrc/{source}/cuda.cu", "-o", str(cubin), *FLAGS),
        *("-MMD", "-MF", str(listed), "-I", "csrc", "-isystem", str(include)),
    )
    files = sorted({name for name in listed.read_text().replace("\\\n", " ").split() if name.startswith("csrc/")})
    text = run(disassembler(), "-c", str(cubin))
    kept.write_text(json.dumps({"stamp": stamp(files), "files": files, "text": text, "report": report}))
    return Compiled(text=text, report=report)


def plain_names(mangled: Iterable[str]) -> list[str]:
    """The kernels' names and template arguments, without namespaces and parameters."""
    demangled = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    return [plain(line) for line in demangled.splitlines()]


def plain(signature: str) -> str:
    """The same of one demangled signature."""
    for noise in ("(anonymous namespace)::", "fastvae::", "scalar::", "void "):
        signature = signature.replace(noise, "")
    depth, end = 0, len(signature)
    for place, letter in enumerate(signature):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            end = place
            break
    return signature[:end]


def registers_of(report: str) -> dict[str, tuple[int, int]]:
    """Registers and spilled bytes of each kernel, from ptxas's report."""
    found: dict[str, tuple[int, int]] = {}
    name, spilled = "", 0
    for line in report.splitlines():
        if entry := re.search(r"entry function '(.*)' for", line):
            name = entry[1]
        elif spill := re.search(r"(\d+) bytes spill stores", line):
            spilled = int(spill[1])
        elif used := re.search(r"Used (\d+) registers", line):
            found[name] = int(used[1]), spilled
    return dict(zip(plain_names(found), found.values(), strict=True))


def rows_of(source: str, compiled: Compiled) -> tuple[list[Row], list[str]]:
    """The table's lines of one source, and what is wrong with its kernels."""
    mangled = functions_of(compiled.text)
    functions = dict(zip(plain_names(mangled), mangled.values(), strict=True))
    registers = registers_of(compiled.report)
    troubles = [f"{source}: {name} spills {spilled} bytes" for name, (_, spilled) in registers.items() if spilled]
    rows, covered = [], set()
    for case, dtype in expanded(source):
        kernel = case.kernel.replace("{T}", dtype)
        if kernel not in functions:
            troubles.append(f"{source}: no kernel {kernel}, which csrc/sass_cases.py names")
            continue
        covered.add(kernel)
        walker = Walker(blocks_of(functions[kernel]), case.wanted(dtype))
        used, spilled = registers[kernel]
        row = Row(case=case, dtype=dtype, path=walker.executed(), body=walker.body(), registers=used, spilled=spilled)
        rows.append(row)
        if trouble := row.trouble():
            troubles.append(f"{case.name} {NAMES[dtype]}: {trouble}")
    aligned = {name for name in functions if "<true" in name}
    troubles += [f"{source}: {name} has no case in csrc/sass_cases.py" for name in sorted(aligned - covered)]
    return rows, troubles


def expanded(source: str) -> Iterator[tuple[Case, str]]:
    """The cases of a source, one for each dtype."""
    return ((case, dtype) for case in CASES if case.source == source for dtype in case.dtypes)


def table(rows: list[Row]) -> str:
    """The table in Markdown."""
    names = (
        "kernel",
        "dtype",
        "instructions / element",
        "loop",
        "bytes / element",
        "of copy, H100 / H200",
        "registers",
        "spilled",
    )
    lines = [f"| {' | '.join([*names, 'loads and stores of a thread'])} |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        shares = " / ".join(f"{row.of_copy(device):.2f}" for device in COPY)
        numbers = (
            f"{row.instructions:.1f} | {row.body} | {row.bytes_moved} | {shares} | {row.registers} | {row.spilled}"
        )
        lines.append(f"| {row.case.name} | {NAMES[row.dtype]} | {numbers} | {row.widths()} |")
    return "\n".join(lines)


def main() -> int:
    """Compile, count, print, and fail where a kernel is not as it should be."""
    sources = list(dict.fromkeys(case.source for case in CASES))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--source", nargs="+", choices=sources, default=sources, metavar="NAME", help=", ".join(sources)
    )
    parser.add_argument("--table", action="store_true", help="print a Markdown table")
    parser.add_argument("--quiet", action="store_true", help="print one line where all is well")
    options = parser.parse_args()
    if shutil.which(os.environ.get("NVCC", "nvcc")) is None:
        print("sass_counts: nvcc is not on PATH; the CUDA kernels were not compiled")
        return 0
    os.chdir(ROOT)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [
            rows_of(source, code)
            for source, code in zip(options.source, pool.map(compile_source, options.source), strict=True)
        ]
    rows = [row for found, _ in results for row in found]
    troubles = [trouble for _, found in results for trouble in found]
    if not options.quiet:
        print(table(rows))
    for trouble in troubles:
        print(f"sass_counts: {trouble}", file=sys.stderr)
    if not troubles:
        print(
            f"sass_counts: {len(rows)} kernels on sm_90: no spill, every tensor stored 16 bytes at a time",
            file=sys.stderr,
        )
    return int(bool(troubles))


if __name__ == "__main__":
    sys.exit(main())
