#!/usr/bin/env bash
# Train on several machines: the same command on every one of them.
#
#   HEAD=host NODES=4 launch/multinode.sh RECIPE [options of `fastvae train`]
#
# HEAD          name of one of the machines, which all can reach (a name: an address fails in torchrun's check whether
#               it is the head itself); PORT (29500) is open on it
# NODES         how many machines, or MIN:MAX: training starts with MIN, and starts anew from its checkpoint when a
#               machine joins or leaves
# PROCESSES     processes on each machine; without it one for each GPU, or as launch/local.sh chooses
# RUN_ID        the same on all machines (fastvae); RESTARTS (3) after a failure or a change of machines
# INTERFACE     the network interface that the machines share (GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME); without it
#               the one that leads to HEAD
set -euo pipefail

[ $# -ge 1 ] && [ -n "${HEAD:-}" ] && [ -n "${NODES:-}" ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { [ -z "${VIRTUAL_ENV:-}" ] && PYTHON=$(ls "$here/../.venv/bin/python" 2> /dev/null); } || PYTHON=python3
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc alone obeys them: 1 thread would be 1 process
processes=${PROCESSES:-$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')}
[ "$processes" -gt 0 ] || processes=$((cores >= 8 ? cores / 4 : cores >= 2 ? 2 : 1))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores >= processes ? cores / processes : 1))}
# A machine that comes back must not meet the addresses of processes that died (seen with torch 2.13).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

# gloo takes the interface of this machine's own name, which many hosts files set to 127.0.1.1.
if [ -z "${INTERFACE:-}" ] && command -v ip > /dev/null; then
    address=$(getent ahostsv4 "$HEAD" | awk 'NR == 1 { print $1 }')
    route=$(ip -o route get "${address:-127.0.0.1}" 2> /dev/null || true)
    INTERFACE=$(sed -n 's/.* dev \([^ ]*\).*/\1/p' <<< "$route")
    if [ "$INTERFACE" = lo ]; then # this is the head: the interface that holds its address
        INTERFACE=$(ip -o -4 addr | awk -v address="${address:-none}" '{ split($4, part, "/"); if (part[1] == address) print $2 }')
    fi
fi
if [ -n "${INTERFACE:-}" ]; then
    export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$INTERFACE} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$INTERFACE}
fi

echo "launch/multinode.sh: $NODES nodes, $processes processes here, head $HEAD:${PORT:-29500}, interface ${INTERFACE:-any}" >&2
exec "$PYTHON" -m torch.distributed.run --nnodes "$NODES" --nproc-per-node "$processes" \
    --rdzv-id "${RUN_ID:-fastvae}" --rdzv-backend c10d --rdzv-endpoint "$HEAD:${PORT:-29500}" \
    --rdzv-conf "last_call_timeout=${LAST_CALL_TIMEOUT:-5},keep_alive_interval=1" --monitor-interval 0.5 \
    --max-restarts "${RESTARTS:-3}" --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    -m fastvae train "$@"
