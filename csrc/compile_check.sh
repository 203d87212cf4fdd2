#!/bin/sh
# Compile every CUDA kernel for the given architectures (default: sm_80 sm_90 sm_100) against the torch of the given Python
# (PYTHON, default python3; a CPU build of torch will do), print each kernel's registers, and fail where one spills.
# Where nvcc is missing it says so and exits 0. About 50 s of processor time for an architecture; all processors are used.
set -eu
python=${PYTHON:-python3}
nvcc=${NVCC:-nvcc}
if ! command -v "$nvcc" >/dev/null 2>&1; then
  echo "compile_check: nvcc is not on PATH; the CUDA kernels were not compiled"
  exit 0
fi
[ $# -gt 0 ] || set -- sm_80 sm_90 sm_100
include=$("$python" -c 'import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec("torch").origin).parent / "include")')
export nvcc include
cd "$(dirname "$0")"

check='
source=${1%% *} arch=${1#* }
report=$(mktemp) object=$(mktemp)
trap "rm -f \"$report\" \"$object\"" EXIT
"$nvcc" -c "$source" -o "$object" -arch="$arch" -O3 -std=c++20 -Xptxas -v -DUSE_CUDA -DTORCH_STABLE_ONLY \
  -DTORCH_TARGET_VERSION=0x020a000000000000 --expt-relaxed-constexpr -I. -isystem "$include" >"$report" 2>&1 || {
  cat "$report"
  echo "compile_check: $source does not compile for $arch"
  exit 1
}
awk -v where="$source $arch" "
  /Compiling entry function/ { name = \$0; sub(/.*entry function ./, \"\", name); sub(/\\047.*/, \"\", name) }
  /bytes spill stores/ { match(\$0, /[0-9]+ bytes spill stores/); spilled = substr(\$0, RSTART, RLENGTH) + 0 }
  /Used [0-9]+ registers/ {
    match(\$0, /Used [0-9]+ registers/); registers = substr(\$0, RSTART + 5, RLENGTH - 15)
    printf \"%s: %s: %d registers, %d bytes spilled\\n\", where, name, registers, spilled
    if (spilled > 0) failed = 1
  }
  END { exit failed }" "$report" || {
  echo "compile_check: $source spills registers on $arch"
  exit 1
}'
for arch in "$@"; do
  for source in */cuda.cu; do
    printf "%s %s\0" "$source" "$arch"
  done
done | xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" sh -c "$check" compile_check
