"""The runs of benchmarks/fine_tuning.py are ones that the program takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fhi_al.app import checks
from fhi_al.settings import read_settings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fine_tuning import COMMANDS, NO_INITIAL, SCRATCH
from fine_tuning_runs import SYSTEMS, Size, write_run_folder

pytestmark = pytest.mark.real


def test_every_way_is_understood(tmp_path: Path) -> None:
    every = {name: (way, n) for ways, n in COMMANDS.values() for name, way in ways.items()}
    assert len(every) > 10
    for place, (name, (way, n_labels)) in enumerate(every.items()):
        folder = tmp_path / str(place)
        taken = [n for n in n_labels if way.takes(n)]
        assert taken, name
        write_run_folder(folder, SYSTEMS["acetamide"], way, taken[0], 1, Size())
        settings = read_settings(folder)
        notes = [note for note in settings.notes if "no effect" in note or "superseded" in note]
        assert not notes, name
        if name in (SCRATCH, NO_INITIAL):
            # A number of labels that the run cannot end with is found here.
            checks.check(folder, settings, checks.read_inputs(settings))
