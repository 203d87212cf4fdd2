#!/bin/sh
# Compile every CUDA kernel for the given architectures (default: sm_80 sm_90 sm_100) against the torch of the given Python
# (PYTHON, default python3; a CPU build of torch will do), print each kernel's registers, and fail where one spills.
# Where nvcc is missing it says so and exits 0.
set -eu
python=${PYTHON:-python3}
nvcc=${NVCC:-nvcc}
[ $# -gt 0 ] || set -- sm_80 sm_90 sm_100
if ! command -v "$nvcc" >/dev/null 2>&1; then
  echo "compile_check: nvcc is not on PATH; the CUDA kernels were not compiled"
  exit 0
fi
include=$("$python" -c 'import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec("torch").origin).parent / "include")')
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in "$@"; do
  for source in cuda/*.cu; do
    report="$work/report"
    "$nvcc" -c "$source" -o "$work/object" -arch="$arch" -O3 -std=c++20 -Xptxas -v -DUSE_CUDA -DTORCH_STABLE_ONLY \
      -DTORCH_TARGET_VERSION=0x020a000000000000 --expt-relaxed-constexpr -I. -isystem "$include" >"$report" 2>&1 || {
      cat "$report"
      echo "compile_check: $source does not compile for $arch"
      exit 1
    }
    awk -v where="$source $arch" '
      /Compiling entry function/ { name = $0; sub(/.*entry function ./, "", name); sub(/\047.*/, "", name) }
      /bytes spill stores/ { match($0, /[0-9]+ bytes spill stores/); spilled = substr($0, RSTART, RLENGTH) + 0 }
      /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+ registers/); registers = substr($0, RSTART + 5, RLENGTH - 15)
        printf "%s: %s: %d registers, %d bytes spilled\n", where, name, registers, spilled
        if (spilled > 0) failed = 1
      }
      END { exit failed }' "$report" || {
      echo "compile_check: $source spills registers on $arch"
      exit 1
    }
  done
done
