#!/usr/bin/env bash
# Everything that needs a GPU, on a machine with an NVIDIA GPU, nvcc, and any torch >= 2.10, in about 10 minutes:
#   build, CUDA tests, compute-sanitizer, training on the GPU held against the CPU, every strategy (one rank of NCCL, two of
#   gloo on the one GPU) held against one process, benchmarks.
# Writes kernels_<gpu>_<yyyymm>.{md,csv}, train_step_<gpu>_<yyyymm>.{md,csv} and run_gpu.log (all that the steps said) to
# benchmarks/results (RESULTS=FOLDER). Goes on after a step that fails, and exits 1 at the end. Ends within SECONDS_LIMIT.
#
#   PYTHON=python3 PACKAGES=FOLDER RESULTS=FOLDER SECONDS_LIMIT=580 benchmarks/run_gpu.sh [--dry-run]
#
# PACKAGES is a folder of Python packages that the machine lacks, made elsewhere with `pip install --target`.
# --dry-run runs what a CPU can run, with the least work, and writes to RESULTS only: it tests this script.
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
RESULTS=${RESULTS:-benchmarks/results}
SECONDS_LIMIT=${SECONDS_LIMIT:-580}
DEVICE=cuda
case "${1:-}" in
"") ;;
--dry-run) DEVICE=cpu ;;
*)
    echo "run_gpu.sh: the only option is --dry-run, got $1" >&2
    exit 2
    ;;
esac
mkdir -p "$RESULTS"
RESULTS=$(cd "$RESULTS" && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
: >"$RESULTS/run_gpu.log"
PYTHONPATH=$PWD:$PWD/benchmarks${PACKAGES:+:$PACKAGES}${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONUNBUFFERED=1 FASTVAE_TEST_DEVICE=$DEVICE
failed=()

need_packages() {
    "$PYTHON" - <<'PYTHON'
import importlib.util, sys
modules = {
    "torch": "torch", "numpy": "numpy", "tyro": "tyro", "rich": "rich", "tensorboard": "tensorboard",
    "safetensors": "safetensors", "matplotlib": "matplotlib", "PIL": "pillow", "sklearn": "scikit-learn",
    "yaml": "pyyaml", "dacite": "dacite", "filelock": "filelock", "setuptools": "setuptools", "ninja": "ninja",
    "pytest": "pytest", "pytest_benchmark": "pytest-benchmark", "pytest_timeout": "pytest-timeout",
    "hypothesis": "hypothesis", "docstring_parser": "docstring-parser", "typeguard": "typeguard",
}
missing = [package for module, package in modules.items() if importlib.util.find_spec(module) is None]
if missing:
    sys.exit(
        f"run_gpu.sh: {sys.executable} lacks {', '.join(missing)}. Where there is a network: pip install "
        f"{' '.join(missing)}. Else elsewhere: pip install --no-deps --target FOLDER {' '.join(missing)} "
        "(and what they need), carry FOLDER here and set PACKAGES=FOLDER"
    )
import setuptools, torch
if int(setuptools.__version__.split(".")[0]) < 77:
    sys.exit(f"run_gpu.sh: the build needs setuptools 77 or later, got {setuptools.__version__}; carry it in PACKAGES")
if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
    sys.exit(f"run_gpu.sh: torch must be 2.10 or later, got {torch.__version__}")
PYTHON
}

need_gpu() {
    "$PYTHON" -c 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "run_gpu.sh: torch sees no GPU")'
}

# step NAME SECONDS COMMAND...: run it within the time, keep what it said, note whether it failed
step() {
    local name=$1 limit=$2 log=$WORK/$1.log start=$SECONDS status=0 left=$((SECONDS_LIMIT - SECONDS))
    shift 2
    [ "$left" -ge "$limit" ] || limit=$((left > 1 ? left : 1))
    timeout "$limit" "$@" >"$log" 2>&1 || status=$?
    { echo "==== $name" && cat "$log"; } >>"$RESULTS/run_gpu.log"
    if [ "$status" -eq 0 ]; then
        echo "ok      $name ($((SECONDS - start)) s): $(tail -n 1 "$log")"
    else
        failed+=("$name")
        echo "FAILED  $name ($((SECONDS - start)) s, exit $status), the end of its log:"
        tail -n 25 "$log" | sed 's/^/        /'
    fi
}

build() {
    if [ "$DEVICE" = cpu ]; then
        echo "not built: a dry run uses what is there"
        return
    fi
    TORCH_CUDA_ARCH_LIST=$("$PYTHON" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
    export TORCH_CUDA_ARCH_LIST FASTVAE_BUILD=require
    "$PYTHON" setup.py -q build_ext --inplace &&
        "$PYTHON" -c '
from fastvae.ops import _native
cuda = _native.build_info.get("cuda")
print("the library has CUDA kernels" if cuda else "no CUDA kernels: %s" % _native.build_info.get("cuda_reason"))
raise SystemExit(not cuda)'
}

cuda_tests() {
    local quick=()
    [ "$DEVICE" = cuda ] || quick=(-k "words or exact or empty or overflow")
    "$PYTHON" -m pytest -q -W default -p no:cacheprovider tests/ops/test_cuda.py ${quick[@]+"${quick[@]}"} &&
        { [ "$DEVICE" = cpu ] || "$PYTHON" -m pytest -q -W default -p no:cacheprovider -k "cuda or gpu" tests/test_bench.py tests/data tests/train; }
}

sanitize() {
    if [ "$DEVICE" = cpu ]; then
        "$PYTHON" benchmarks/gpu_driver.py cpu
    else
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 20 \
            "$PYTHON" benchmarks/gpu_driver.py cuda
    fi
}

train_digits() {
    local steps=1500
    [ "$DEVICE" = cuda ] || steps=4
    "$PYTHON" benchmarks/gpu_train.py "$WORK" --device "$DEVICE" --steps "$steps"
}

strategies() {
    local size=()
    [ "$DEVICE" = cuda ] || size=(--steps 3 --strategies ddp)
    "$PYTHON" benchmarks/gpu_strategies.py "$WORK/strategies" --device "$DEVICE" ${size[@]+"${size[@]}"}
}

kernels() {
    local dry=()
    [ "$DEVICE" = cuda ] || dry=(--dry-run)
    "$PYTHON" benchmarks/gpu_kernels.py --out "$RESULTS" ${dry[@]+"${dry[@]}"}
}

train_step() {
    local size=(--steps 200 --rounds 3)
    [ "$DEVICE" = cuda ] || size=(--steps 1 --rounds 1 --networks textbook --no-compile)
    "$PYTHON" benchmarks/bench_train_step.py --device "$DEVICE" --out "$RESULTS" "${size[@]}"
}

need_packages || exit 2
if [ "$DEVICE" = cuda ]; then
    need_gpu || exit 2
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
fi
export -f build cuda_tests sanitize train_digits strategies kernels train_step
export PYTHON DEVICE RESULTS WORK
step build 240 bash -c build
step tests 150 bash -c cuda_tests
step kernels 300 bash -c kernels
step digits 150 bash -c train_digits
if [ "$DEVICE" = cpu ] || command -v compute-sanitizer >/dev/null; then
    step memcheck 120 bash -c "sanitize memcheck"
    [ "$DEVICE" = cpu ] || step racecheck 120 bash -c "sanitize racecheck"
else
    echo "--      compute-sanitizer is not on PATH: memory and races were not checked"
fi
step strategies 120 bash -c strategies
step train_step 180 bash -c train_step
sed -n '/^| case .*| bar/,$p' "$WORK/kernels.log"
if [ ${#failed[@]} -gt 0 ]; then
    echo "run_gpu.sh: failed after $SECONDS s: ${failed[*]}"
    exit 1
fi
echo "run_gpu.sh: all steps passed in $SECONDS s; results in $RESULTS"
