"""Run into errors, report what every rank saw: asi_errors.py ERROR,... LIBRARY WORK_DIR."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from asi_setup import asi_spec, report

from fhi_al.core.errors import EngineError
from fhi_al.engines.asi import AsiEngine
from fhi_al.parallel import mpi

cases, library, work_dir = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
spec = asi_spec("water", library, work_dir)
positions, cell = spec.geometry.structure.positions, spec.geometry.structure.cell


def seen(act: Callable[[], object]) -> str:
    """The error of this rank, or "none"."""
    try:
        act()
    except EngineError as error:
        return str(error)
    return "none"


def start() -> None:
    AsiEngine(spec, comm).close()


def differing_geometry() -> None:
    engine = AsiEngine(spec, comm)
    try:
        engine.calculate(positions + 1e-12 * (comm.rank == comm.size - 1), cell)
    finally:
        engine.calculate(positions, cell)  # the refusal was ours: the library still works
        engine.close()


def wrong_shape() -> None:
    engine = AsiEngine(spec, comm)
    try:
        engine.calculate(positions[: 3 - (comm.rank == comm.size - 1)], cell)
    finally:
        engine.calculate(positions, cell)
        engine.close()


def nan_positions() -> None:
    engine = AsiEngine(spec, comm)
    try:
        engine.calculate(np.full((3, 3), np.nan), cell)
    finally:
        engine.close()


def folder_gone() -> None:
    engine = AsiEngine(spec, comm)
    engine.calculate(positions, cell)
    comm.Barrier()
    if comm.rank == 0:
        shutil.rmtree(work_dir)
    comm.Barrier()
    try:
        engine.calculate(1.01 * positions, cell)
    finally:
        engine.close()


def folder_gone_for_one_rank() -> None:
    """The last rank comes too late: the others have entered the folder before it vanishes."""
    engine = AsiEngine(spec, comm)
    engine.calculate(positions, cell)
    enter = os.chdir

    def enter_too_late(folder: Path) -> None:
        if folder == work_dir:
            time.sleep(0.2)
            shutil.rmtree(work_dir)
        enter(folder)

    if comm.rank == comm.size - 1:
        os.chdir = enter_too_late  # type: ignore[assignment]
    try:
        engine.calculate(1.01 * positions, cell)
    finally:
        os.chdir = enter
        comm.Barrier()
        engine.close()


def two_at_a_time() -> None:
    engine = AsiEngine(spec, comm)
    try:
        AsiEngine(spec, comm)
    finally:
        engine.close()


def after_close() -> None:
    engine = AsiEngine(spec, comm)
    engine.close()
    engine.calculate(positions, cell)


def once_more() -> None:
    start()
    engine = AsiEngine(spec, comm)
    engine.calculate(positions, cell)
    engine.close()


with mpi.communicator() as comm:
    report(comm, {case: seen(globals()[case]) for case in cases.split(",")})
