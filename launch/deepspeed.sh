#!/usr/bin/env bash
# Train with DeepSpeed's own launcher.
#
#   launch/deepspeed.sh RECIPE [options of `fastvae train`]
#
# PROCESSES=N   processes per machine (default: one per GPU, or 2 without a GPU)
# HOSTFILE=...  a DeepSpeed hostfile (`host slots=8`, one per line) for several machines, reached over ssh
# SETTINGS=...  a DeepSpeed JSON, such as launch/zero3-offload.json; not required for --train.deepspeed.stage alone
#
# `launch/local.sh RECIPE --train.strategy deepspeed` does the same through torchrun.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { [ -z "${VIRTUAL_ENV:-}" ] && PYTHON=$(ls "$here/../.venv/bin/python" 2> /dev/null); } || PYTHON=python3
export PATH="$(dirname "$PYTHON"):$PATH" # DeepSpeed starts `python`, and compiles with `ninja`
gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" -eq 0 ]; then
    export DS_ACCELERATOR=${DS_ACCELERATOR:-cpu}
    processes=${PROCESSES:-2}
    cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc depends on these variables
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores >= processes ? cores / processes : 1))}
else
    processes=${PROCESSES:-$gpus}
fi
hosts=(--hostfile "${HOSTFILE:-/dev/null}")
settings=()
[ -z "${SETTINGS:-}" ] || settings=(--train.deepspeed.file "$SETTINGS")
echo "launch/deepspeed.sh: $processes processes on each machine" >&2
exec "$PYTHON" -m deepspeed.launcher.runner "${hosts[@]}" --num_accelerators "$processes" --master_port "${PORT:-29501}" \
    --module fastvae train "$@" --train.strategy deepspeed "${settings[@]}"
