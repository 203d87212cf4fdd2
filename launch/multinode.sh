#!/usr/bin/env bash
# Train on several machines: run the same command on each of them.
#
#   HEAD=host NODES=4 launch/multinode.sh RECIPE [options of `fastvae train`]
#
# HEAD          host name of one machine that all can reach (not an address: torchrun would not recognise the head);
#               PORT (29500) must be open on it
# NODES         number of machines, or MIN:MAX: training starts with MIN, and restarts from its checkpoint when a
#               machine joins or leaves
# PROCESSES     processes per machine (default: one per GPU; without a GPU as in launch/local.sh)
# RUN_ID        the same on all machines (fastvae); RESTARTS (3) after a failure or a change of machines
# INTERFACE     network interface between the machines, for GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME (default:
#               that of the route to HEAD)
set -euo pipefail

[ $# -ge 1 ] && [ -n "${HEAD:-}" ] && [ -n "${NODES:-}" ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { [ -z "${VIRTUAL_ENV:-}" ] && PYTHON=$(ls "$here/../.venv/bin/python" 2> /dev/null); } || PYTHON=python3
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc depends on these variables: 1 thread would mean 1 process
processes=${PROCESSES:-$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')}
[ "$processes" -gt 0 ] || processes=$((cores >= 8 ? cores / 4 : cores >= 2 ? 2 : 1))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores >= processes ? cores / processes : 1))}
# A machine that rejoins must not read the addresses of dead processes (observed with torch 2.13).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

# gloo uses the interface of this machine's host name, which many hosts files set to 127.0.1.1.
if [ -z "${INTERFACE:-}" ] && command -v ip > /dev/null; then
    address=$(getent ahostsv4 "$HEAD" | awk 'NR == 1 { print $1 }')
    route=$(ip -o route get "${address:-127.0.0.1}" 2> /dev/null || true)
    INTERFACE=$(sed -n 's/.* dev \([^ ]*\).*/\1/p' <<< "$route")
    if [ "$INTERFACE" = lo ]; then # this is the head: use the interface with its address
        INTERFACE=$(ip -o -4 addr | awk -v address="${address:-none}" '{ split($4, part, "/"); if (part[1] == address) print $2 }')
    fi
fi
if [ -n "${INTERFACE:-}" ]; then
    export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$INTERFACE} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$INTERFACE}
fi

echo "launch/multinode.sh: $NODES nodes, $processes processes here, head $HEAD:${PORT:-29500}, interface ${INTERFACE:-any}" >&2
exec "$PYTHON" -m fastvae.cluster.torchrun --nnodes "$NODES" --nproc-per-node "$processes" \
    --rdzv-id "${RUN_ID:-fastvae}" --rdzv-backend c10d --rdzv-endpoint "$HEAD:${PORT:-29500}" \
    --rdzv-conf "last_call_timeout=${LAST_CALL_TIMEOUT:-5},keep_alive_interval=1" --monitor-interval 0.5 \
    --max-restarts "${RESTARTS:-3}" --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    -m fastvae train "$@"
