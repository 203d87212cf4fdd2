#!/usr/bin/env bash
# All tests and benchmarks that need a GPU, on a machine with an NVIDIA GPU, CUDA 13, Python 3.12 and torch 2.11, in nine
# minutes.
#
#   RESULTS=FOLDER benchmarks/run_gpu.sh [--dry-run]
#
# `make gpu-kit`, run on another machine, makes .gpu/ with the packages and libraries that the GPU machine lacks. Without
# it the packages must be installed, and the libraries are built here. Only RESULTS and a temporary folder are written.
#
# RESULTS gets at most 8 files. Rows and lines are written immediately, so that they are kept if the script is stopped:
#   run_gpu.log                       output of the steps
#   kernels.csv, .md                  operators: bandwidth, and ratios to a copy, eager PyTorch and torch.compile
#   train_step.csv, .md               images/s of whole training steps
#   checks.csv, .md                   comparisons with the CPU, compute-sanitizer or another run; the result of each step
#   ncu.csv                           hardware counters of six kernels
# `python benchmarks/gpu_tables.py RESULTS ... --out benchmarks/results` collects the results of one or more runs.
#
# STEPS="digits gloo"   run only these steps; ALL below lists the steps
# PYTHON=python3        the interpreter;    KIT=.gpu   the kit
# SECONDS_LIMIT=510     time limit of the script; a step that fails or exceeds its time does not stop the others, and the
#                       script exits with 1 at the end
# --dry-run             test this script on a CPU with tiny sizes, in less than two minutes
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

ALL="machine tests alone profile digits train_step memcheck strategies eager compiled gloo train_more deepspeed"
PYTHON=${PYTHON:-python3}
RESULTS=${RESULTS:-runs/gpu}
KIT=${KIT:-.gpu}
STEPS=${STEPS:-$ALL}
DEVICE=cuda DRY=
[[ $PYTHON != */* || $PYTHON = /* ]] || PYTHON=$PWD/$PYTHON
case "${1:-}" in
"") ;;
--dry-run) DEVICE=cpu DRY=yes ;;
*)
    echo "run_gpu.sh: the only option is --dry-run, got $1" >&2
    exit 2
    ;;
esac
# On busy processors a dry run takes longer; its time is unrelated to the time on a GPU.
PATIENCE=$([ "$DEVICE" = cuda ] && echo 1 || echo 4)
SECONDS_LIMIT=${SECONDS_LIMIT:-$((510 * PATIENCE))}
for name in $STEPS; do
    [[ " $ALL " == *" $name "* ]] || { echo "run_gpu.sh: STEPS must be some of $ALL, got $name" >&2; exit 2; }
done
mkdir -p "$RESULTS" || exit 2
RESULTS=$(cd "$RESULTS" && pwd)
LOG=$RESULTS/run_gpu.log
WORK=$(mktemp -d)
KIT=$(realpath -m "$KIT")
failed=() skipped=()
child=

say() { echo "$*" | tee -a "$LOG"; }

# record STEP VERDICT DETAIL: one row of checks.csv
record() { "$PYTHON" "$PWD/benchmarks/gpu_rows.py" "$RESULTS" "$1" "the step" "$2" "$3" >/dev/null; }

stop() {
    trap - TERM INT
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    say "run_gpu.sh: stopped by a signal after $SECONDS s; the measurements so far are in $RESULTS"
    exit 143
}
trap stop TERM INT
trap 'rm -rf "$WORK"' EXIT

# skip NAME REASON: record that a step is skipped, for lack of time or of a tool
skip() {
    skipped+=("$1")
    say "--      $1: $2"
    record "$1" skipped "$2"
}

# step NAME SECONDS COMMAND...: run it within the time limit; after STEP_SECONDS it should not start new work
step() {
    local name=$1 limit=$(($2 * PATIENCE)) began=$SECONDS status=0 left=$((SECONDS_LIMIT - SECONDS)) from detail
    shift 2
    [ "$left" -ge "$limit" ] || limit=$left
    if [ "$limit" -lt 10 ]; then
        skip "$name" "no time left"
        return 1
    fi
    say "==== $name, at most $limit s, $SECONDS s after the start"
    from=$(($(wc -c <"$LOG") + 1))
    STEP_SECONDS=$((limit * 4 / 5 - 5)) timeout -k 5 "$limit" "$@" </dev/null >>"$LOG" 2>&1 &
    child=$!
    wait "$child" || status=$?
    child=
    detail="$((SECONDS - began)) s"
    if [ "$status" -eq 0 ]; then
        say "ok      $name ($detail): $(tail -c "+$from" "$LOG" | tail -n 1)"
        record "$name" ok "$detail"
        return 0
    fi
    failed+=("$name")
    [ "$status" -ne 124 ] && [ "$status" -ne 137 ] || detail="stopped at its limit of $limit s"
    tail -c "+$from" "$LOG" | tail -n 25 | cut -c 1-500 | sed 's/^/        /'
    say "FAILED  $name ($detail, exit $status)"
    record "$name" FAILED "$detail, exit $status"
    return 1
}

machine() {
    "$PYTHON" benchmarks/gpu_machine.py --results "$RESULTS" --device "$DEVICE"
}

tests() {
    local options=(-q -W default -p no:cacheprovider -p gpu_pytest --numprocesses 4) some=() others status=0
    [ "$DEVICE" = cuda ] || some=(-k "words or exact or empty or overflow" --numprocesses 0)
    "$PYTHON" -m pytest "${options[@]}" ${some[@]+"${some[@]}"} tests/ops/test_cuda.py || status=1
    mapfile -t others < <(grep -rlE 'mark\.gpu\b' tests --include='test_*.py' | grep -v ops/test_cuda.py)
    [ "$DEVICE" = cuda ] || others=(tests/test_bench.py)
    "$PYTHON" -m pytest "${options[@]}" ${some[@]+--numprocesses 0} -m gpu "${others[@]}" || status=1
    return $status
}

# kernels alone|eager|compiled
kernels() {
    "$PYTHON" benchmarks/gpu_kernels.py "$1" --results "$RESULTS" --seconds "$STEP_SECONDS" ${DRY:+--dry-run}
}

profile() {
    local status=0 program=(benchmarks/gpu_driver.py profile --results "$RESULTS" --device "$DEVICE")
    if [ "$DEVICE" = cpu ]; then
        "$PYTHON" "${program[@]}"
    else
        ncu --clock-control none --profile-from-start off --section SpeedOfLight --section WarpStateStats \
            --section LaunchStats --csv --log-file "$RESULTS/ncu.csv" "$PYTHON" "${program[@]}" || status=$?
        # If the driver or a sandbox denies access to the counters, ncu writes an error to its file but exits with 0.
        if ! grep -q "Speed Of Light" "$RESULTS/ncu.csv"; then
            echo "ncu read no counters: $(grep -m 1 ERROR "$RESULTS/ncu.csv")"
            status=1
        fi
        return "$status"
    fi
}

digits() {
    local steps=300
    [ "$DEVICE" = cuda ] || steps=4
    "$PYTHON" benchmarks/gpu_train.py "$WORK/digits" --results "$RESULTS" --device "$DEVICE" --steps "$steps"
}

# train_step NAME [options]: images/s
train_step() {
    local name=$1 size=()
    shift
    [ "$DEVICE" = cuda ] || size=(--steps 1 --rounds 1)
    "$PYTHON" benchmarks/gpu_train_step.py --step "$name" --results "$RESULTS" --device "$DEVICE" \
        --seconds "$STEP_SECONDS" "$@" ${size[@]+"${size[@]}"}
}

train_more() {
    if [ "$DEVICE" = cpu ]; then
        train_step train_more --networks convolutional
        return
    fi
    local half=$((STEP_SECONDS / 2)) status=0
    STEP_SECONDS=$half train_step train_more --networks iwae convolutional --steps 500 || status=1
    STEP_SECONDS=$half train_step train_more_compiled --networks textbook iwae convolutional --compiled --rounds 2 ||
        status=1
    return $status
}

memcheck() {
    local program=(benchmarks/gpu_driver.py memcheck --results "$RESULTS" --device "$DEVICE" --seconds "$STEP_SECONDS")
    if [ "$DEVICE" = cpu ]; then
        "$PYTHON" "${program[@]}"
    else
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 9 --print-limit 20 \
            "$PYTHON" "${program[@]}"
    fi
}

# strategies NAME RANKS STRATEGY...
strategies() {
    local name=$1 ranks=$2 size=()
    shift 2
    [ "$DEVICE" = cuda ] || size=(--steps 3)
    "$PYTHON" benchmarks/gpu_strategies.py "$WORK/strategies" --step "$name" --ranks "$ranks" --results "$RESULTS" \
        --device "$DEVICE" ${size[@]+"${size[@]}"} --strategies "$@"
}

run() {
    local two=(ddp)
    case $1 in
    machine) step machine 20 bash -c machine ;;
    tests) step tests 60 bash -c tests ;;
    alone) step alone 30 bash -c "kernels alone" ;;
    profile)
        if [ "$DEVICE" = cuda ] && ! command -v ncu >/dev/null; then
            skip profile "ncu is not on PATH: no counters were read"
        else
            step profile 30 bash -c profile
        fi
        ;;
    digits) step digits 60 bash -c digits ;;
    train_step) step train_step 50 bash -c "train_step train_step --networks textbook" ;;
    memcheck)
        if [ "$DEVICE" = cuda ] && ! command -v compute-sanitizer >/dev/null; then
            skip memcheck "compute-sanitizer is not on PATH: memory was not checked"
        else
            step memcheck 75 bash -c memcheck
        fi
        ;;
    strategies)
        [ "$DEVICE" = cpu ] || two+=(fsdp)
        step strategies 50 bash -c "strategies strategies 1 ${two[*]}"
        ;;
    eager) step eager 45 bash -c "kernels eager" ;;
    compiled) step compiled 120 bash -c "kernels compiled" ;;
    gloo)
        [ "$DEVICE" = cpu ] || two+=(fsdp)
        step gloo 60 bash -c "strategies gloo 2 ${two[*]}"
        ;;
    train_more) step train_more 120 bash -c train_more ;;
    deepspeed)
        if [ "$DEVICE" = cpu ]; then
            skip deepspeed "not part of a dry run; the tests of the strategies cover it"
        else
            step deepspeed 60 bash -c "strategies deepspeed 1 deepspeed"
        fi
        ;;
    esac
}

say "run_gpu.sh: $DEVICE, steps $STEPS, results in $RESULTS"
step prepare 150 "$PYTHON" benchmarks/gpu_prepare.py "$WORK/tree" "$WORK/site" --device "$DEVICE" --kit "$KIT" || exit 2
cd "$WORK/tree" || exit 2
PYTHONPATH=$WORK/tree:$WORK/tree/benchmarks:$WORK/site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONUNBUFFERED=1 FASTVAE_TEST_DEVICE=$DEVICE PYTHON DEVICE DRY RESULTS WORK
export -f machine tests kernels profile digits train_step train_more memcheck strategies
for name in $ALL; do
    [[ " $STEPS " != *" $name "* ]] || run "$name"
done
timeout -k 5 20 "$PYTHON" benchmarks/gpu_tables.py "$RESULTS" >>"$LOG" 2>&1
for page in kernels train_step checks; do # without the tables of all calls: the output may be truncated to its end
    [ ! -f "$RESULTS/$page.md" ] || { echo && sed '/^| call /,$d' "$RESULTS/$page.md" | tr -s ' -'; }
done
if [ ${#failed[@]} -gt 0 ]; then
    say "run_gpu.sh: failed after $SECONDS s: ${failed[*]}"
    exit 1
fi
say "run_gpu.sh: all passed in $SECONDS s, skipped: ${skipped[*]:-nothing}; results in $RESULTS"
