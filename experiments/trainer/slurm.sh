#!/bin/bash
# A training over 2 machines of 8 cards: sbatch experiments/trainer/slurm.sh
# Lightning reads SLURM's variables; --ntasks-per-node must be the number of cards of a machine.
# SLURM sends SIGUSR1 90 seconds before the time is over: Lightning saves and submits the job again.
#SBATCH --job-name=diffcf
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=SIGUSR1@90
set -euo pipefail
EXPERIMENT=${EXPERIMENT:-experiments/celeba_smile.yaml}
srun .venv/bin/diffcf fit --config "$EXPERIMENT" --config experiments/trainer/ddp.yaml \
  --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE"
