"""A script for Slurm: one job for FHI-aims as a library, which goes on after its time limit."""

from __future__ import annotations

NAME = "submit.sh"

SCRIPT = """\
#!/bin/bash -l
# ADAPT: nodes, ranks (as many as one FHI-aims calculation of this system scales to), time,
# partition and account.
#SBATCH --job-name=fhi_al
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=32
#SBATCH --cpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --output=slurm_%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
# Ten minutes before the limit FHI_AL finishes its step, writes a snapshot and ends with exit
# code 3.  Take more than 600 if a calculation takes longer.
#SBATCH --signal=USR1@600

# ADAPT: the modules that FHI-aims and mpi4py were built with, and the environment of FHI_AL.
# module load intel-oneapi impi mkl
# source /path/to/venv/bin/activate

export OMP_NUM_THREADS=1
ulimit -s unlimited

# Ends here if an input is wrong, before any core hour is spent.
FHI_AL --check > check.out 2>&1 || { cat check.out; exit 2; }

# The table at the start of the run must show all ranks; if it shows one, srun needs another --mpi.
srun FHI_AL
code=$?

# Exit code 3: stopped, and goes on.  Anything else is final.
if [ "$code" -eq 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
