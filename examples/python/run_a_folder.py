"""Run a folder's inputs from Python: ``mpirun -n N python run_a_folder.py FOLDER`` (any N)."""

import sys

from fhi_al import ActiveLearningProcedure, InitialDatasetProcedure, open_run

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "."
    # Rank 0 gets the run; the other ranks serve it inside open_run and leave the program there.
    with open_run(folder) as run:
        InitialDatasetProcedure(run).run()
        print(f"initial ensemble: {run.state.final_mae_forces:.4f} eV/A on validation")
        ActiveLearningProcedure(run).run()
        print(f"final models: {run.state.final_mae_forces:.4f} eV/A; {run.state.stop_reason}")
