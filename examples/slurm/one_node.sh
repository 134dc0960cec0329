#!/bin/bash -l
# FHI_AL on one node of 64 cores, no GPU: 64 ranks with one thread each.
#
#   ranks 0-2    rank 0 drives and runs MD; 0 to 2 train the members    1 core, 1 thread each
#   ranks 3-63   one FHI-aims group of 61 ranks                         1 core, 1 thread each
#
# which these keys give:
#   ACTIVE_LEARNING:
#     parallel: true
#     training_ranks: 3        # as many as ensemble_size: a member each
#     reference_groups: 1
#   MISC:
#     num_threads: 1
#
# Three ranks with one thread train faster than one rank with three threads (small batches leave
# threads idle), so each rank may be bound to its core, which FHI-aims likes.
# A small molecule does not keep 61 ranks busy: then raise reference_groups (61 = 3 x 20 + 1).
#SBATCH --job-name=fhi_al
#SBATCH --nodes=1
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --output=slurm_%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
# Five minutes before the limit all ranks get SIGUSR1; rank 0 finishes its step, writes a snapshot
# and ends with exit code 3.  No "B:" before USR1: that would tell this script only.  Take more
# than 300 if a training round takes longer.
#SBATCH --signal=USR1@300

# ADAPT: the modules FHI-aims and mpi4py were built with, and the environment FHI_AL is in.
# module load intel-oneapi impi mkl
# source /path/to/venv/bin/activate

# For FHI-aims, which has one rank per core; training has MISC.num_threads.
export OMP_NUM_THREADS=1
ulimit -s unlimited

# Stop here if an input is wrong, before any core hour is spent.
FHI_AL --check > check.out 2>&1 || { cat check.out; exit 2; }

srun --cpu-bind=cores FHI_AL
code=$?

# Exit code 3: stopped and restartable.  Anything else is final, an error is not tried again.
if [ "$code" -eq 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
