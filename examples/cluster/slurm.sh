#!/usr/bin/env bash
# Trains on SLURM: sbatch slurm.sh CONFIG [options]
# One task per GPU; the numbers below and the trainer's options must agree.
#SBATCH --job-name=posekit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
config=$1
shift
runs="runs/$(basename "$config" .yaml)"
# A job that is requeued or submitted again goes on from its newest checkpoint.
newest=$(ls -t "$runs"/version_*/checkpoints/{recent,last}.ckpt 2>/dev/null | head -n 1 || true)
export OMP_NUM_THREADS=1
${LAUNCH:-srun} python -m posekit fit --config "$config" \
  --trainer.accelerator gpu --trainer.strategy ddp \
  --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" --trainer.num_nodes "${SLURM_NNODES:-1}" \
  --data.num_workers "$((${SLURM_CPUS_PER_TASK:-2} - 1))" --data.pin_memory true \
  ${newest:+--ckpt_path "$newest"} "$@"
