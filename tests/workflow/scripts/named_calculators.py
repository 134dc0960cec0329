"""Active learning with ASE calculators by import path: reference and sampling."""

from __future__ import annotations

import sys
from dataclasses import replace

from objects import WATER
from pair_potential import PairPotential

from fhi_al import AseCalculator, Backend, InitialDataset, Stop

if __name__ == "__main__":
    quietly = {"method": "GFN1-xTB", "verbosity": 0}
    replace(
        WATER,
        engine=AseCalculator(sys.argv[2], quietly),
        model=Backend(PairPotential, members=2, num_functions=8, lr=0.05, batch_size=4),
        stop=Stop(force_mae=100.0, max_md_steps=10),
        initial=InitialDataset(
            "tblite.ase:TBLite", points=4, skip_steps=5, max_epochs=2, arguments=quietly
        ),
        misc={"snapshot_interval": 0, "report": False},
    ).run(sys.argv[1])
