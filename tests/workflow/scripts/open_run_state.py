"""What open_run leaves changed in the process: open_run_state.py FOLDER CASE [...more].

CASE: a function below.  Every rank prints what is not as it was, as a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import tblite.ase  # noqa: F401
import torch
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parents[2]))
from process_state import differences, process_state

import fhi_al
from fhi_al import InitialDatasetProcedure, open_run


class UsersError(Exception):
    """Something of the user's own goes wrong within the block."""


def done(folder: Path) -> None:
    with open_run(folder) as run:
        InitialDatasetProcedure(run).run()


def users_error(folder: Path) -> None:
    with open_run(folder) as run:
        InitialDatasetProcedure(run).run()
        raise UsersError("within the block")


def stopped(folder: Path) -> None:
    with open_run(folder) as run:
        (folder / "STOP").touch()
        InitialDatasetProcedure(run).run()


def interrupted(folder: Path) -> None:
    with open_run(folder) as run:
        signal.raise_signal(signal.SIGINT)  # Ctrl-C
        InitialDatasetProcedure(run).run()


def store_lost(folder: Path) -> None:
    with open_run(folder) as run:
        store = folder / "restart" / "labels.jsonl"
        store.rename(store.with_suffix(".away"))
        try:
            InitialDatasetProcedure(run).run()
        finally:
            store.with_suffix(".away").rename(store)


def wrong_input(folder: Path) -> None:
    with open_run(folder / "nothing here"):
        pass


def ctrl_c_outside(folder: Path) -> None:
    signal.raise_signal(signal.SIGINT)


def outcome(act: Callable[[Path], None], folder: Path) -> str:
    try:
        act(folder)
    except BaseException as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "done"


for module in pkgutil.walk_packages(fhi_al.__path__, "fhi_al."):
    importlib.import_module(module.name)
# Another number than runs set, whatever the machine's own is.
torch.set_num_threads(3)
found = {}
before = process_state()
# What is not the same twice could not be told from what a case has changed.
unsteady = differences(before, process_state())
for case in sys.argv[2:]:
    ended = outcome(globals()[case], Path(sys.argv[1]))
    after = process_state()
    found[case] = [ended, differences(before, after)]
    before = after
line = json.dumps([MPI.COMM_WORLD.rank, [unsteady, found]])
os.write(1, f"\nRESULT {line}\n".encode())
