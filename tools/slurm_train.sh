#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# One task a GPU. GPUS (8) in all, GPUS_PER_NODE (8) of a node, CPUS_PER_TASK
# (5), SRUN_ARGS (further options of srun), MASTER_PORT (29500).
set -euo pipefail
[ $# -ge 4 ] || { sed -n 2p "$0" >&2; exit 2; }
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
tools=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086 # SRUN_ARGS is several words
exec srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" \
    --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$tools/train.py" "$config" --work-dir "$work_dir" \
    --launcher slurm "$@"
