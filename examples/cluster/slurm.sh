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
config=${1:?usage: slurm.sh CONFIG [options]}
# A run's folder is that of the whole line and of the config's content: a job that is requeued or submitted again goes
# on from its own newest checkpoint, never from another's. It lies in runs, or in the line's --trainer.default_root_dir.
words=$(printf '%s\n' "$@" "${SLURM_ARRAY_TASK_ID:-}")
sum=$({ echo "$words"; cat "$config" 2>/dev/null || true; } | cksum | cut -d ' ' -f 1)
root=$(sed -n 's/^--trainer.default_root_dir=//p; /^--trainer.default_root_dir$/ {n; p;}' <<<"$words" | tail -n 1)
folder="${root:-runs}/$(basename -- "$config" .yaml)-$sum"
newest=$(ls -t "$folder"/*/version_*/checkpoints/{recent,last}.ckpt 2>/dev/null | head -n 1 || true)
echo "slurm.sh: the run's folder is $folder, its newest checkpoint ${newest:-none}"
export OMP_NUM_THREADS=1
${LAUNCH:-srun} python -m posekit fit --config "$config" \
  --trainer.accelerator gpu --trainer.strategy ddp \
  --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" --trainer.num_nodes "${SLURM_NNODES:-1}" \
  --data.num_workers "$((${SLURM_CPUS_PER_TASK:-2} - 1))" --data.pin_memory true \
  "${@:2}" --trainer.default_root_dir "$folder" ${newest:+--ckpt_path "$newest"}
