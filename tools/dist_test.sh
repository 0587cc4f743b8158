#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# One process a GPU, or on a machine without GPUs as many CPU processes.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 2p "$0" >&2; exit 2; }
config=$1 checkpoint=$2 processes=$3
shift 3
tools=$(cd "$(dirname "$0")" && pwd)
where=(--standalone)
if [ "${NNODES:-1}" != 1 ]; then
    where=(--nnodes="$NNODES" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:?the first machine}"
        --master_port="${PORT:-29500}")
fi
exec python -m torch.distributed.run "${where[@]}" \
    --nproc_per_node="$processes" "$tools/test.py" "$config" "$checkpoint" \
    --launcher pytorch "$@"
