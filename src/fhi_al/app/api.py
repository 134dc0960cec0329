"""Active learning from Python objects: the same run as from a folder's files.

Owns how objects become a :class:`fhi_al.app.definition.Definition`, and what is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from fhi_al.app.choices import (
    Backend,
    Engine,
    InitialDataset,
    Keys,
    Stop,
    System,
    Threshold,
)
from fhi_al.app.definition import Definition, Objects
from fhi_al.app.dynamics import Dynamics
from fhi_al.app.open import ServedToTheEnd, check_alone, opened
from fhi_al.app.structures import geometry_of
from fhi_al.app.systems import system_of
from fhi_al.core.errors import InputError
from fhi_al.core.reported_errors import ReportedErrors
from fhi_al.engines.aims_input.control import read_control
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.engine import ReferenceEngine
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.registry import completed, engine_kind
from fhi_al.models.file_names import final_models
from fhi_al.settings import Settings
from fhi_al.settings.engine_names import OBJECT
from fhi_al.settings.from_python import in_sections, settings_from
from fhi_al.settings.keys import mace_layout
from fhi_al.settings.model_backends import ModelDeclaration, declaration

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run

SOURCE = "ActiveLearning"


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Parameters
    ----------
    folder : Path
        With all its files.
    models : tuple of Path
        The final models, which MACE's own calculator loads.
    force_mae : float
        Mean validation force MAE of their members in eV/A.
    n_labels : int
        Reference calculations that gave a label.
    stop_reason : str
    errors : ReportedErrors or None
        What is known of the models' errors, the true one of ``final_test`` included.
    """

    folder: Path
    models: tuple[Path, ...]
    force_mae: float
    n_labels: int
    stop_reason: str
    errors: ReportedErrors | None = None


@dataclass(frozen=True, eq=False)
class ActiveLearning:
    """A machine-learning force field of one system, with as few reference calculations as possible.

    Parameters
    ----------
    structures : sequence of ase.Atoms, or mapping
        Where MD begins: starting geometries of one system, which differ in positions and cell
        only.  Several systems are a mapping of names to their structure, their structures, or a
        :class:`System`.  ``FixAtoms`` and ``FixCartesian`` hold in every MD; initial charges and
        magnetic moments reach the engine.
    engine : TBLite, AseCalculator, Aims or ReferenceEngine
        What labels: a choice, or an object of your own with ``calculate`` and ``close`` (see
        :class:`fhi_al.engines.engine.ReferenceEngine`).
    model : MACE or Backend
        The ensemble: MACE, or any kind of models, also a class of your own.
    md : Langevin, Bussi, NoseHoover, Berendsen, Andersen, NVE or NPT, or several of them
        Several are MD blocks, which trajectories are assigned to in turn.
    criterion : Threshold
        When a structure needs a label.
    stop : Stop
        When it is enough.
    initial : InitialDataset
    integrator : Integrator or callable, optional
        In place of that of ``md``, whose temperature and seed still hold for velocities and random
        streams: a :class:`fhi_al.md.integrator.Integrator`, or a function ``(atoms, conditions,
        generator)`` that gives an ASE integrator on the atoms and moves one trajectory at a time.
    options : mapping
        Other keys of the section ACTIVE_LEARNING, named as in the file.
    misc : mapping
        Keys of the section MISC of ``active_learning_settings.yaml``.
    """

    structures: Sequence[Atoms] | Mapping[str, Atoms | Sequence[Atoms] | System]
    engine: Engine | ReferenceEngine
    model: Backend
    md: Dynamics | Sequence[Dynamics]
    criterion: Threshold = field(default_factory=Threshold)
    stop: Stop = field(default_factory=Stop)
    initial: InitialDataset = field(default_factory=InitialDataset)
    integrator: Callable[..., Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    misc: Mapping[str, Any] = field(default_factory=dict)

    def definition(self, folder: Path | str) -> Definition:
        """The run in a folder, its settings validated.

        Raises
        ------
        SettingsError, InputError
            With all problems found.
        """
        place = Path(folder).resolve()
        uncertainty = self.criterion.uncertainty
        models = self._models()
        keys = {
            "ensemble_size": self.model.members,
            "model_backend": models.name,
            **self._engine_keys(),
        }
        for part in (self.criterion, self.stop, self.initial):
            keys |= part.keys()
        settings = settings_from(
            in_sections(mace_layout(models.architecture), self.model.keys, f"{SOURCE}: model"),
            {
                "ACTIVE_LEARNING": {**keys, **self.options},
                "MD": self._md_keys(),
                **self._system_keys(),
                "MISC": self.misc,
            },
            place,
            SOURCE,
            models,
        )
        return Definition(
            place,
            settings,
            self._inputs(settings),
            Objects(
                uncertainty=None if isinstance(uncertainty, str) else uncertainty,
                integrator=self.integrator,
            ),
        )

    def check(self, folder: Path | str = ".") -> list[str]:
        """Check everything, run nothing; what ``FHI_AL --check`` prints.

        Raises
        ------
        SettingsError, InputError, SnapshotError
            With all problems found.
        """
        return check_alone(lambda: self.definition(folder))

    def run(self, folder: Path | str) -> Result | None:
        """Run until the force field is finished, or continue a run in the folder.

        Every rank of COMM_WORLD calls it; rank 0 returns the result, the others None.

        Raises
        ------
        SettingsError, InputError, SnapshotError
            If the inputs are wrong, or not those of the run in the folder; nothing was run then.
        EngineError
            If the reference engine fails for good.
        SystemExit
            With code 3, if the run was asked to stop; another call continues it.
        """
        from fhi_al.active_learning.active_learning import ActiveLearningProcedure
        from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure

        try:
            with opened(lambda: self.definition(folder)) as run:
                InitialDatasetProcedure(run).run()
                ActiveLearningProcedure(run).run()
                return _result_of(run)
        except ServedToTheEnd as end:
            if end.code:
                raise
            return None

    def _models(self) -> ModelDeclaration:
        if not isinstance(self.model, Backend):
            raise InputError(
                [
                    f"{SOURCE}: model: {self.model!r}: expected MACE(...), or Backend(kind, ...)"
                    " with the name, the class or the declaration of a model backend"
                ]
            )
        if "model_backend" in self.options:
            raise InputError(
                [
                    f"{SOURCE}: options: model_backend: the model says it: expected"
                    f" model=Backend({self.options['model_backend']!r}, ...) instead"
                ]
            )
        try:
            return declaration(self.model.kind)
        except ValueError as error:
            raise InputError([f"{SOURCE}: model: {self.model.kind!r}: {error}"]) from error

    def _md_keys(self) -> Keys | list[Keys]:
        if isinstance(self.md, Dynamics):
            return self.md.keys()
        if not self.md:
            raise InputError(
                [f"{SOURCE}: md: is empty: expected at least one, such as Langevin(300)"]
            )
        return [each.keys() for each in self.md]

    def _engine_keys(self) -> Keys:
        if isinstance(self.engine, ReferenceEngine):
            return {"reference_engine": OBJECT}
        if callable(getattr(self.engine, "keys", None)):
            return self.engine.keys()
        raise InputError(
            [
                f"{SOURCE}: engine: {type(self.engine).__name__}: expected TBLite,"
                " AseCalculator, Aims, or an object with calculate(positions, cell) and"
                " close(). An ASE calculator is named by its import path:"
                " AseCalculator('package.module:Class')"
            ]
        )

    def _systems(self) -> dict[str, System]:
        """By name; the empty one for a system that nobody has named."""
        if not self.structures:
            raise InputError([f"{SOURCE}: structures: is empty: expected at least one"])
        if not isinstance(self.structures, Mapping):
            return {"": System(list(self.structures))}
        return {
            name: given if isinstance(given, System) else System(given)
            for name, given in self.structures.items()
        }

    def _system_keys(self) -> Keys:
        if not isinstance(self.structures, Mapping):
            return {}
        if len(self.structures) > 1 and isinstance(self.engine, ReferenceEngine):
            raise InputError(
                [
                    f"{SOURCE}: engine: an object computes one system, structures has"
                    f" {len(self.structures)}: expected TBLite, AseCalculator or Aims for several"
                ]
            )
        return {"SYSTEMS": [{"name": name, **one.keys()} for name, one in self._systems().items()]}

    def _inputs(self, settings: Settings) -> Inputs:
        own = self.engine if isinstance(self.engine, ReferenceEngine) else None
        try:
            needs_control = engine_kind(settings).needs_control
            control = read_control(settings.folder / "control.in") if needs_control else None
        except AimsInputError as error:
            raise InputError([str(error)]) from error
        each = []
        for section, (name, one) in zip(settings.systems, self._systems().items(), strict=True):
            of_it = f"structures[{name!r}]" if name else "structures"
            geometries = [
                geometry_of(atoms, f"{SOURCE}: {of_it}[{number}]")
                for number, atoms in enumerate(one.starts)
            ]
            each.append(system_of(section, geometries, control))
        return completed(settings, Inputs(tuple(each), own))


def _result_of(run: Run) -> Result:
    state, export = run.state, run.report.export
    assert state.final_mae_forces is not None
    return Result(
        folder=run.folder,
        models=tuple(final_models(export.model_folder)),
        force_mae=state.final_mae_forces,
        n_labels=run.store.n_computed - run.store.n_rejected,
        stop_reason=state.stop_reason,
        errors=state.errors,
    )
