"""What ``--check`` says of the labels ahead, and where fewer would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fhi_al.app.needs import EVERYTHING, Needs
from fhi_al.app.work_ahead import volume_period_fs, work_ahead
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.inputs import Inputs
from fhi_al.settings import read_settings

WATER = "atom 0 0 0.1173 O\natom 0 0.7572 -0.4692 H\natom 0 -0.7572 -0.4692 H\n"


DIAMOND = (
    "lattice_vector 0 1.785 1.785\nlattice_vector 1.785 0 1.785\nlattice_vector 1.785 1.785 0\n"
    "atom 0 0 0 C\natom 0.8925 0.8925 0.8925 C\n"
)


def lines_of(
    folder: Path,
    needs: Needs = EVERYTHING,
    geometry: str = WATER,
    md: dict[str, Any] | None = None,
    **al: Any,
) -> str:
    mace = {"GENERAL": {"name_exp": "water", "compute_stress": geometry is DIAMOND}}
    active = {"ACTIVE_LEARNING": {"reference_engine": "tblite", "max_MD_steps": 100} | al}
    active["MD"] = {"timestep": 0.5} | (md or {})
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(active))
    inputs = Inputs.of([parse_geometry(geometry, folder / "geometry.in")])
    return "\n".join(work_ahead(read_settings(folder), inputs, needs))


def test_every_md_step_of_the_reference_method_is_counted_and_a_cheap_sampler_named(
    tmp_path: Path,
) -> None:
    changes = {"n_samples": 5, "ensemble_size": 3, "skip_step_initial": 10}
    dear = lines_of(tmp_path, initial_sampling="aimd", **changes)
    assert "15 points and 150 reference calculations per round" in dear
    assert "advice: initial_sampling: aimd computes 10 MD steps for each point" in dear
    assert "foundation_calculator: tblite.ase.TBLite" in dear
    cheap = lines_of(tmp_path, initial_sampling="mace-mp0", **changes)
    assert "15 points and 15 reference calculations per round" in cheap
    assert "advice: initial_sampling" not in cheap


@pytest.mark.parametrize(
    ("steps", "warns"), [(100, True), (999, True), (1000, False), (None, False)]
)
def test_trajectories_that_hardly_leave_their_start_are_told_of(
    tmp_path: Path, steps: int | None, warns: bool
) -> None:
    lines = lines_of(tmp_path, max_MD_steps=steps, max_set_size=50)
    assert ("advice: max_MD_steps" in lines) == warns
    if warns:
        assert f"run {steps / 2:g} fs" in lines and "take 1000 or more" in lines


def test_labels_of_the_test_and_the_budget_are_counted(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, label_budget=60, final_test=4)
    assert "final test: 4 labels of structures" in lines
    assert "label_budget: at most 60 reference calculations in all" in lines
    lines = lines_of(tmp_path, final_test="auto")
    assert "final test: a label for each 10 computed before, at most 10," in lines
    assert "label_budget" not in lines
    assert "final test" not in lines_of(tmp_path, final_test=0)


@pytest.mark.parametrize(
    ("changes", "warns"),
    [
        ({"barostat": "MTK", "barostat_time": 100}, True),
        ({"barostat": "MTKFlexible", "barostat_time": 100}, True),
        ({"barostat": "MTK", "barostat_time": 1000}, False),
        ({"barostat": "MTK"}, False),
        ({"barostat": "MTK", "barostat_time": 500, "timestep": 8.0}, True),
        ({"barostat": "CellRescaling", "barostat_time": 100}, False),
        ({"barostat": "Berendsen", "barostat_time": 100}, False),
    ],
)
def test_a_volume_that_would_swing_faster_than_the_atoms_is_warned_of(
    tmp_path: Path, changes: dict[str, Any], warns: bool
) -> None:
    md = {"stat_ensemble": "NPT", "temperature": 300} | changes
    lines = lines_of(tmp_path, geometry=DIAMOND, md=md)
    assert ("warning: MD.barostat_time" in lines) == warns
    if warns and changes["barostat_time"] == 100:
        # 2 pi 100 fs sqrt(0.02585 eV / (3 x 0.6242 eV/A^3 x 5.687 A^3))
        assert "100 fs lets the volume swing with a period of about 31 fs" in lines
        assert "take 323 or more, or barostat: CellRescaling" in lines


def test_no_barostat_is_warned_of_in_nvt(tmp_path: Path) -> None:
    md = {"barostat": "MTK", "barostat_time": 100}
    assert "barostat_time" not in lines_of(tmp_path, geometry=DIAMOND, md=md)


def test_the_volume_of_diamond_swings_with_the_period_that_docs_md_gives() -> None:
    assert volume_period_fs(300, 1000, 443, 5.67) == pytest.approx(147, abs=1)
