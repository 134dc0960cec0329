"""Active learning with an engine object and a backend class that a program hands over."""

from __future__ import annotations

import sys
from dataclasses import replace

from ase.build import molecule
from objects import WATER
from own_parts import Springs
from pair_potential import PairPotential

from fhi_al import Backend, Stop

if __name__ == "__main__":
    replace(
        WATER,
        engine=Springs(molecule("H2O"), stiffness=30.0),
        model=Backend(PairPotential, members=2, num_functions=8, lr=0.05, batch_size=4),
        stop=Stop(max_md_steps=60),
        options={
            **WATER.options,
            "intermediate_gain": None,  # points are labelled while the models are poor
            "max_final_epochs": 10,
            "analysis": True,
        },
        misc={"snapshot_interval": 0, "report": False},
    ).run(sys.argv[1])
