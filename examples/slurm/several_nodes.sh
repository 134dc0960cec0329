#!/bin/bash -l
# FHI_AL on five nodes of 64 cores, no GPU: one node for the models, four for FHI-aims.
#
#   ranks 0-2      rank 0 drives and runs MD; 0 to 2 train the members   node 1, 16 threads each
#   ranks 3-258    four FHI-aims groups of 64 ranks                      nodes 2-5, a group each
#
# which these keys give:
#   ACTIVE_LEARNING:
#     parallel: true
#     training_ranks: 3        # as many as ensemble_size: a member each
#     reference_groups: 4
#   MISC:
#     num_threads: 16
#
# Groups are cut from the ranks in their order, so where ranks are placed decides whether a group
# is on one node: the host file below puts three ranks on the first node and 64 on each other.
# Is a node for three ranks a waste?  If training is the bottleneck, no (docs/explanation/scaling.md).  If DFT
# is: --nodes=4 --ntasks=256 without the host file, num_threads: 1; then 253 ranks make four groups
# of 63 or 64, most of which reach over to the next node with a few ranks.
#SBATCH --job-name=fhi_al
#SBATCH --nodes=5
#SBATCH --ntasks=259
#SBATCH --exclusive
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

# One line per rank, in the order of ranks: --distribution=arbitrary reads it.
export SLURM_HOSTFILE=hosts_${SLURM_JOB_ID}.txt
scontrol show hostnames "$SLURM_JOB_NODELIST" |
    awk '{ n = (NR == 1) ? 3 : 64; for (i = 0; i < n; i++) print }' > "$SLURM_HOSTFILE"

# No binding: with it rank 0 would have one core for its 16 threads.  On the other nodes there are
# as many ranks as cores and nothing else runs, so little is lost there.
srun --distribution=arbitrary --cpu-bind=none FHI_AL
code=$?
rm -f "$SLURM_HOSTFILE"

# Exit code 3: stopped and restartable.  Anything else is final, an error is not tried again.
if [ "$code" -eq 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
