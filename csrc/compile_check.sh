#!/bin/sh
# Compile every CUDA kernel for the given architectures (default: sm_75 sm_80 sm_100) against the torch of the given Python
# (PYTHON, default python3; a CPU build of torch will do), print each kernel's registers, and fail where one spills.
# One call of nvcc a source compiles for all architectures, so that the host's half is compiled once. sm_90 is left to
# csrc/sass_counts.py, which also reads the machine code. Where nvcc is missing it says so and exits 0. About 130 s of
# processor time; all processors are used.
set -eu
python=${PYTHON:-python3}
nvcc=${NVCC:-nvcc}
if ! command -v "$nvcc" >/dev/null 2>&1; then
  echo "compile_check: nvcc is not on PATH; the CUDA kernels were not compiled"
  exit 0
fi
[ $# -gt 0 ] || set -- sm_75 sm_80 sm_100
include=$("$python" -c 'import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec("torch").origin).parent / "include")')
architectures=$*
code=
for arch in "$@"; do
  code="$code -gencode arch=compute_${arch#sm_},code=$arch"
done
export nvcc include code architectures
cd "$(dirname "$0")"

check='
source=$1
report=$(mktemp) object=$(mktemp)
trap "rm -f \"$report\" \"$object\"" EXIT
"$nvcc" -c "$source" -o "$object" $code -O3 -std=c++20 -Xptxas -v -DUSE_CUDA -DTORCH_STABLE_ONLY \
  -DTORCH_TARGET_VERSION=0x020a000000000000 --expt-relaxed-constexpr -I. -isystem "$include" >"$report" 2>&1 || {
  cat "$report"
  echo "compile_check: $source does not compile for $architectures"
  exit 1
}
awk -v where="$source" "
  /Compiling entry function/ {
    name = arch = \$0; sub(/.*entry function ./, \"\", name); sub(/\\047.*/, \"\", name)
    sub(/.* for ./, \"\", arch); sub(/\\047.*/, \"\", arch)
  }
  /bytes spill stores/ { match(\$0, /[0-9]+ bytes spill stores/); spilled = substr(\$0, RSTART, RLENGTH) + 0 }
  /Used [0-9]+ registers/ {
    match(\$0, /Used [0-9]+ registers/); registers = substr(\$0, RSTART + 5, RLENGTH - 15)
    printf \"%s %s: %s: %d registers, %d bytes spilled\\n\", where, arch, name, registers, spilled
    if (spilled > 0) failed = 1
  }
  END { exit failed }" "$report" || {
  echo "compile_check: $source spills registers"
  exit 1
}'
for source in */cuda.cu; do
  printf "%s\0" "$source"
done | xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" sh -c "$check" compile_check
