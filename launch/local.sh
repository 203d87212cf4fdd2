#!/usr/bin/env bash
# Train on this machine through torchrun: one process per GPU, or the CPU's cores divided among processes.
#
#   launch/local.sh RECIPE [options of `fastvae train`]
#
# PROCESSES=N   number of processes (default: one per GPU; without a GPU one per 4 cores, at least 2)
# RESTARTS=N    number of times that torchrun restarts them after a failure (0)
# PYTHON=...    the Python interpreter (default: that of the active environment)
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { [ -z "${VIRTUAL_ENV:-}" ] && PYTHON=$(ls "$here/../.venv/bin/python" 2> /dev/null); } || PYTHON=python3
gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc depends on these variables: 1 thread would mean 1 process
if [ "$gpus" -gt 0 ]; then
    processes=${PROCESSES:-$gpus}
else
    processes=${PROCESSES:-$((cores >= 8 ? cores / 4 : cores >= 2 ? 2 : 1))}
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores >= processes ? cores / processes : 1))}
# Without this a restart may read the addresses of the dead processes, and fail.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
echo "launch/local.sh: $processes processes, $OMP_NUM_THREADS threads each, $gpus GPUs" >&2
exec "$PYTHON" -m fastvae.cluster.torchrun --standalone --nproc-per-node "$processes" --max-restarts "${RESTARTS:-0}" \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    -m fastvae train "$@"
