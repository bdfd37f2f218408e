#!/bin/sh
# Pre-train on several machines: run this on each of them, all with the same arguments.
#
#   MAIN=machine1:29400 NODES=2 GPUS=8 examples/launch_multi_node.sh paper --data ... --out ...
#
# MAIN      where the processes meet: a machine of the run and a free port
# NODES     number of machines
# GPUS      processes on each; one per GPU
# RESTARTS  how often a run whose process failed is continued from its last checkpoint
#
# Under Slurm `srun --ntasks-per-node 1 examples/launch_multi_node.sh ...` finds MAIN and NODES.
set -eu

NODES="${NODES:-${SLURM_NNODES:-1}}"
if [ -z "${MAIN:-}" ] && [ -n "${SLURM_JOB_NODELIST:-}" ]; then
  MAIN="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29400"
fi

# Not torchrun's --max-restarts: its processes meet again at the dead ones' addresses.
tries=0
until torchrun \
  --nnodes "$NODES" \
  --nproc-per-node "${GPUS:-1}" \
  --rdzv-backend c10d \
  --rdzv-endpoint "${MAIN:-localhost:29400}" \
  --rdzv-id "${RUN_ID:-${SLURM_JOB_ID:-videoclip}}" \
  --max-restarts 0 \
  -m videoclip pretrain "$@"
do
  tries=$((tries + 1))
  [ "$tries" -le "${RESTARTS:-0}" ] || exit 1
  echo "restart $tries of $RESTARTS" >&2
done
