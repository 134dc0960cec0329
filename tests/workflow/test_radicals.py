"""A radical that would be computed as a closed shell is named, before and when a run starts."""

from __future__ import annotations

import pytest
from run_folder import SMALLEST, succeed, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]

HYDROXYL = "atom 0 0 0 O\natom 0 0 0.97 H\n"
NOTE = "an odd number of electrons, and no "


def test_a_radical_is_named_by_the_check_and_at_the_start(tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run", geometry=HYDROXYL, active_learning={"ACTIVE_LEARNING": SMALLEST}
    )
    assert f"note: geometry.in: {NOTE}initial_moment" in succeed(folder, 1, "--check")
    assert f"geometry.in: {NOTE}initial_moment" in succeed(folder, 1, command="FHI_AL-initial-ds")


def test_a_radical_without_spin_is_named_for_fhi_aims(tmp_path, asi_library) -> None:
    folder = write_inputs(tmp_path / "run", geometry=HYDROXYL, asi_library=asi_library)
    assert f"note: control.in: {NOTE}`spin collinear`" in succeed(folder, 1, "--check")
