"""Exports for the user, which can all be made again from restart/: data, models, checkpoints.

Owns ``data/``, ``model/``, ``checkpoints/`` and ``inputs/``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fhi_al.core.label import Label, LabelSets
from fhi_al.core.members import member_names
from fhi_al.core.reported_errors import ReportedErrors
from fhi_al.labels.records import Rejected
from fhi_al.labels.store import LabelStore
from fhi_al.labels.xyz import write_records
from fhi_al.models.ensemble import Ensemble, state_name
from fhi_al.models.file_names import best_model, with_compiled
from fhi_al.report.model_card import ModelCard
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

PACKAGES = (
    "fhi-al",
    "ase",
    "asi4py",
    "mace-torch",
    "mpi4py",
    "numpy",
    "pydantic",
    "torch",
    "tblite",
)
SETS = ("training", "validation")
TEST = "test"
OUTSIDE = "outside"


@dataclass(frozen=True)
class Exporter:
    """Writes data sets, models and checkpoints, where the settings say.

    Parameters
    ----------
    name : str
        GENERAL.name_exp.
    seeds : tuple of int
        Of the members.
    dataset_folder, model_folder, checkpoint_folder : Path
    inputs_folder : Path
        In the run's folder.
    keep_checkpoints : bool
        Keep the training checkpoints of all epochs, not the last only.
    kind : str
        Of the models: ``model_backend``.
    reference : str
        What computes the labels, in words.
    """

    name: str
    seeds: tuple[int, ...]
    dataset_folder: Path
    model_folder: Path
    checkpoint_folder: Path
    inputs_folder: Path
    keep_checkpoints: bool
    kind: str
    reference: str

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members in files and tables."""
        return member_names(self.name, self.seeds)

    def inputs(self, files: Iterable[Path], resolved: dict[str, str]) -> None:
        """Copy the inputs, the resolved settings and the versions of what computes with them.

        Parameters
        ----------
        files : iterable of Path
            Those that are not there are left out.
        resolved : mapping
            File name -> text.
        """
        there = [path for path in files if path.is_file()]
        copies = copied_to(there, self.inputs_folder.parent)
        self._remove_flat(copies)
        for path, place in copies.items():
            write_atomically(self.inputs_folder / place, path.read_bytes())
        for name, text in resolved.items():
            write_atomically(self.inputs_folder / f"resolved_{name}", text)
        lines = [f"{package}: {_version(package)}" for package in PACKAGES]
        write_atomically(self.inputs_folder / "versions.yaml", "\n".join(lines) + "\n")

    def _remove_flat(self, copies: Mapping[Path, Path]) -> None:
        """Remove copies of older programs: of files in several folders, the last of each name."""
        kept = {os.path.normpath(path) for path in copies}
        kept |= {os.path.normpath(self.inputs_folder / place) for place in copies.values()}
        for place in copies.values():
            old = self.inputs_folder / place.name
            if os.path.normpath(old) not in kept and old.is_file():
                old.unlink()

    def dataset(
        self,
        phase: str,
        members: Sequence[LabelSets],
        store: LabelStore,
        test: Sequence[Label] = (),
    ) -> None:
        """Write the sets of every member, and combined, to ``data/<phase>/``.

        Parameters
        ----------
        phase : str
            "initial" or "final".
        members : sequence of LabelSets
        store : LabelStore
            Its rejected structures are written, too.
        test : sequence of Label
            The test set, which all members share; no file without any.
        """
        for kind in SETS:
            folder = self.dataset_folder / phase / kind
            combined: dict[str, Label] = {}
            for name, member in zip(self.member_names, members, strict=True):
                labels = getattr(member, kind)
                combined |= {label.key: label for label in labels}
                write_records(folder / f"{name}.xyz", labels)
            write_records(folder / "combined.xyz", list(combined.values()))
        if test:
            write_records(self.dataset_folder / phase / TEST / "combined.xyz", test)
        seeds = [f"{n}: {seed}" for n, seed in zip(self.member_names, self.seeds, strict=True)]
        write_atomically(self.dataset_folder / "member_seeds.yaml", "\n".join(seeds) + "\n")
        rejected = [record for record in store if isinstance(record, Rejected)]
        if rejected:
            write_records(self.dataset_folder / "rejected" / "rejected.xyz", rejected)

    def models(
        self, ensemble: Ensemble, best: int | None = None, *, compiled: bool = False
    ) -> None:
        """Write the members' models, loadable by MACE's own calculator.

        Parameters
        ----------
        ensemble : Ensemble
        best : int or None
            The one member that was converged; its model is written as ``<name>_best.model`` too.
        compiled : bool
            Beside each of these, its compiled form.
        """
        paths = [ensemble.export(self.model_folder, self.name)]
        if compiled:
            try:
                paths.append(ensemble.export_compiled(self.model_folder, self.name))
            except RuntimeError as error:  # the models themselves are safe: no reason to fail
                log.warning(
                    "compile_final: TorchScript cannot compile the models (%s); they are written "
                    "as they are. Set MISC.compile_final: false to do without",
                    str(error).strip().splitlines()[-1],
                )
        target = best_model(self.model_folder, self.name)
        if best is None:  # of a run whose settings were other ones
            for stale in (target, with_compiled(target)):
                stale.unlink(missing_ok=True)
        else:
            for given, to in zip(paths, (target, with_compiled(target)), strict=False):
                write_atomically(to, given[best].read_bytes())

    def model_card(
        self,
        ensemble: Ensemble,
        store: LabelStore,
        errors: ReportedErrors | None,
        best: int | None = None,
    ) -> None:
        """Write ``README.md`` beside the models: what they are and how good.

        Parameters
        ----------
        ensemble : Ensemble
        store : LabelStore
        errors : ReportedErrors or None
            Of the models as they are exported.
        best : int or None
            As in :meth:`models`.
        """
        chosen = range(len(ensemble)) if best is None else [best]
        every = self.member_names
        names = [f"{self.name}_best"] if best is not None else list(every)
        card = ModelCard(
            name=self.name,
            kind=self.kind,
            reference=self.reference,
            files=[f"{name}.model" for name in names],
            elements=ensemble.backend.elements,
            r_max=ensemble.backend.r_max,
            dtype=ensemble.backend.dtype,
            energies={
                every[index]: ensemble.members[index].normalisation.atomic_energies
                for index in chosen
            },
            n_labels=store.n_labels,
            errors=errors,
            date=datetime.now(UTC).date().isoformat(),
            versions={package: _version(package) for package in PACKAGES},
        )
        write_atomically(self.model_folder / "README.md", card.text())

    def checkpoints(self, ensemble: Ensemble, states: dict[str, bytes]) -> None:
        """Write the members' training states (weights, optimizer, EMA) to ``checkpoints/``."""
        for member in ensemble.members:
            content = states[state_name(member.index)]
            epoch = f"_epoch-{member.epochs}" if self.keep_checkpoints else ""
            path = self.checkpoint_folder / f"{self.member_names[member.index]}{epoch}.pt"
            write_atomically(path, content)


def copied_to(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Where the copy of each file lies below ``inputs/``: no two at one place.

    Parameters
    ----------
    files : iterable of Path
        Absolute.
    folder : Path
        The run's.  Files in it keep their paths, others are below ``outside/`` with what is left of
        theirs without the folder that is common to them.
    """
    # Not resolved: a link has the name that the settings know.
    absolute = {path: Path(os.path.normpath(path)) for path in files}
    start = os.path.normpath(folder)
    places = {p: at.relative_to(start) for p, at in absolute.items() if at.is_relative_to(start)}
    others = {path: at for path, at in absolute.items() if path not in places}
    if others:
        common = os.path.commonpath([at.parent for at in others.values()])
        name = OUTSIDE
        while any(place.parts[0] == name for place in places.values()):
            name += "_"  # the run's folder has one of this name
        places |= {path: name / at.relative_to(common) for path, at in others.items()}
    return places


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
