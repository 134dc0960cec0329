#!/bin/bash -l
#SBATCH --job-name=fhi_al_driver
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=7-00:00:00
#SBATCH --signal=USR1@600
#SBATCH --output=slurm_%j.out

# ADAPT: the environment FHI_AL is in. The modules of FHI-aims belong in worker_init instead.
# source /path/to/venv/bin/activate

export OMP_NUM_THREADS=4

FHI_AL --check > check.out 2>&1 || { cat check.out; exit 2; }

# MD and training only; the labels are computed in jobs that this one submits.
srun FHI_AL
