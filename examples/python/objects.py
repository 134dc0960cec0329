"""A force field of a water molecule from Python objects: ``mpirun -n N python objects.py FOLDER``.

Run it again to continue.  Any number of ranks; one does.
"""

import sys

from ase.build import molecule

from fhi_al import MACE, ActiveLearning, InitialDataset, Langevin, Stop, TBLite, Threshold

WATER = ActiveLearning(
    structures=[molecule("H2O")],
    engine=TBLite("GFN2-xTB"),
    model=MACE(
        members=2, num_channels=8, max_L=0, r_max=4.0, batch_size=4, default_dtype="float32"
    ),
    md=Langevin(temperature_K=500, timestep_fs=0.5, friction_per_fs=0.01),
    criterion=Threshold("max_atomic_sd", c_x=0.1),
    stop=Stop(force_mae=0.1, max_set_size=20, max_md_steps=200),
    initial=InitialDataset("aimd", points=4, skip_steps=5, max_epochs=30),
    # No test on MD of the final models, which takes longer than all the rest of so short a run.
    options={
        "num_trajectories": 2,
        "skip_step_mlff": 10,
        "max_final_epochs": 10,
        "final_test": 0,
    },
)

if __name__ == "__main__":
    result = WATER.run(sys.argv[1] if len(sys.argv) > 1 else "water")
    if result is not None:  # on rank 0; the other ranks have served it
        print(f"{result.n_labels} labels, force MAE {result.force_mae:.4f} eV/A")
        print("models:", *(path.name for path in result.models))
