#!/bin/bash -l
#SBATCH --job-name=fhi_al_water
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --output=slurm_%j.out

# ADAPT: the modules FHI-aims and mpi4py were built with, and the environment FHI_AL is in.
# module load intel-oneapi impi mkl
# source /path/to/venv/bin/activate

export OMP_NUM_THREADS=1
ulimit -s unlimited

# Stop here if an input is wrong, before any core hour is spent.
FHI_AL --check > check.out 2>&1 || { cat check.out; exit 2; }

# First time: the energies of the isolated atoms, to be copied into mace_settings.yaml.
# srun FHI_AL-atomic-energies

srun FHI_AL
