#!/bin/bash -l
# FHI_AL as a heterogeneous job: one GPU node for the models, four CPU nodes for FHI-aims.
#
#   ranks 0-2      rank 0 drives and runs MD; 0 to 2 train the members   1 GPU, 8 threads each
#   ranks 3-258    four FHI-aims groups of 64 ranks                      CPU nodes, a group each
#
# which these keys give:
#   ACTIVE_LEARNING:
#     parallel: true
#     training_ranks: 3        # as many as ensemble_size: a member each
#     reference_groups: 4
#   MISC:
#     num_threads: 8
# and, in mace_settings.yaml,
#   MISC:
#     device: cuda             # the first GPU that a rank sees
#
# Both components are one MPI job: the MPI library must support that under srun (with PMIx most
# do).  The table that FHI_AL prints at its start must show 259 ranks, not 3 and 256.
# ADAPT the partitions.
#SBATCH --job-name=fhi_al
#SBATCH --time=12:00:00
#SBATCH --output=slurm_%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
# Five minutes before the limit all ranks get SIGUSR1; rank 0 finishes its step, writes a snapshot
# and ends with exit code 3.  No "B:" before USR1: that would tell this script only.  Take more
# than 300 if a training round takes longer.
#SBATCH --signal=USR1@300
#SBATCH --partition=gpu
#SBATCH --nodes=1
#SBATCH --ntasks=3
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH hetjob
#SBATCH --partition=cpu
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@300
#SBATCH --nodes=4
#SBATCH --ntasks=256
#SBATCH --ntasks-per-node=64
#SBATCH --cpus-per-task=1

# ADAPT: the modules FHI-aims and mpi4py were built with, and the environment FHI_AL is in.
# module load intel-oneapi impi mkl cuda
# source /path/to/venv/bin/activate

# For FHI-aims, which has one rank per core; training has MISC.num_threads.
export OMP_NUM_THREADS=1
ulimit -s unlimited

# Stop here if an input is wrong, before any core hour is spent.
FHI_AL --check > check.out 2>&1 || { cat check.out; exit 2; }

# The first component's tasks are the first ranks.  Each training rank is bound to its 8 cores, the
# others to one each: here cpus-per-task differs between the components, so binding is right.
srun --cpu-bind=cores --het-group=0,1 FHI_AL
code=$?

# Exit code 3: stopped and restartable.  Anything else is final, an error is not tried again.
if [ "$code" -eq 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
