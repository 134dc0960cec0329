"""Where models, data and inputs of a run are written, and what is said of their origin."""

from __future__ import annotations

from pathlib import Path

from fhi_al.core.members import member_seeds
from fhi_al.engines.aims_input.geometry import write_geometry
from fhi_al.engines.inputs import Inputs
from fhi_al.report.export import Exporter
from fhi_al.settings import Settings


def geometry_files(inputs: Inputs) -> dict[str, str]:
    """The geometry of each system as a file with which the run goes on: name -> text."""
    head = "Written by FHI_AL: the geometry of the run"
    return {
        f"{one.name}_geometry.in" if one.name else "geometry.in": write_geometry(
            one.geometry, head, constraints=True
        )
        for one in inputs.moving
    }


def exporter(settings: Settings, folder: Path) -> Exporter:
    """Writes to the folders that the settings name."""
    mace = settings.mace
    assert mace is not None
    return Exporter(
        name=mace.general.name_exp,
        seeds=member_seeds(mace.general.seed, settings.al.ensemble_size),
        dataset_folder=settings.resolve(settings.al.dataset_dir),
        model_folder=settings.resolve(mace.general.model_dir),
        checkpoint_folder=settings.resolve(mace.general.checkpoints_dir),
        inputs_folder=folder / "inputs",
        keep_checkpoints=mace.misc.keep_checkpoints,
        kind=settings.al.model_backend,
        reference=_reference(settings),
    )


def _reference(settings: Settings) -> str:
    """What computes the labels, for a reader."""
    al = settings.al
    if al.reference_engine == "aims":
        return "FHI-aims with the control.in of the run"
    if al.reference_engine == "tblite":
        return f"tblite, {al.reference_method}"
    if al.reference_engine == "ase":
        return f"ASE, {al.reference_calculator}"
    return str(al.reference_engine)
