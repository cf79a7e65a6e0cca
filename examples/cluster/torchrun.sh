#!/usr/bin/env bash
# Trains with PROCESSES processes on this machine: bash torchrun.sh PROCESSES --config FILE [options]
# On several machines run it on each with NODES and MASTER (host:port of one of them) set.
set -euo pipefail
processes=${1:?usage: torchrun.sh PROCESSES --config FILE [options]}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m torch.distributed.run \
  --nnodes "${NODES:-1}" --nproc_per_node "$processes" \
  --rdzv_backend c10d --rdzv_endpoint "${MASTER:-localhost:0}" --rdzv_id posekit \
  -m posekit fit --trainer.strategy ddp "${@:2}" --trainer.devices "$processes" --trainer.num_nodes "${NODES:-1}"
