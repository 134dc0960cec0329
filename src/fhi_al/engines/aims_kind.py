"""FHI-aims as a kind of engine: a library through ASI, or with a cluster its executable."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from ase.data import chemical_symbols

from fhi_al.engines.aims_input.atomic import atomic_input
from fhi_al.engines.aims_input.engine_input import (
    control_problems,
    engine_input,
    species_masses,
)
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, with_masses
from fhi_al.engines.aims_input.stress import stress_note
from fhi_al.engines.asi_library import library_problem
from fhi_al.engines.command import command_problem
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.kind import AL, EngineContext, EngineKind
from fhi_al.engines.open_shell import aims_note
from fhi_al.engines.spec import AimsCommandSpec, AsiSpec, EngineSpec
from fhi_al.settings import ActiveLearning, Settings
from fhi_al.settings.clash import Clash


class Aims(EngineKind):
    """FHI-aims."""

    own_keys = ("aims_lib_path", "species_dir", "cluster.aims_command")
    energy = (
        "the electronic free energy of the executable's output; what ASI_energy gives of the"
        " library's, compared with it"
    )
    calls_are_collective = True
    has_stress = True  # by name: which methods have none is said of control.in
    needs_control = True
    needs_job = True

    @classmethod
    def rules(cls, al: ActiveLearning) -> Iterator[Clash]:
        """Library or, with a cluster, command; species_dir is asked for by :meth:`problems`."""
        engine = f"{AL}.reference_engine"
        if al.cluster is None:
            if al.aims_lib_path is None:
                yield Clash(
                    (f"{AL}.aims_lib_path", engine),
                    "missing; the aims engine needs the path of FHI-aims built as a shared library"
                    " (libaims....so). To try without FHI-aims set reference_engine: tblite",
                    about_value=False,
                )
            return
        cluster = f"{AL}.cluster"
        if al.cluster.aims_command is None:
            yield Clash(
                (f"{cluster}.aims_command", cluster, engine),
                "missing; the aims engine needs what runs its executable, such as srun -n 64"
                " aims.x",
                about_value=False,
            )
        if al.aims_lib_path is not None:
            yield Clash(
                (f"{AL}.aims_lib_path", cluster),
                "a cluster runs the executable (cluster.aims_command), not the library. Keep one"
                " of the two",
            )

    def completed(self, settings: Settings, inputs: Inputs) -> Inputs:
        """With the masses of the species blocks."""
        assert inputs.control is not None
        geometries = []
        for geometry in inputs.geometries:
            try:
                masses = species_masses(inputs.control, geometry.species, _folder(settings))
            except AimsInputError:
                masses = {}  # no block for a species, say: the check reports it
            geometries.append(with_masses(geometry, masses))
        return inputs.with_geometries(geometries)

    def spec(self, run: EngineContext, geometry: Geometry) -> EngineSpec:
        """The user's control.in with what is needed; the executable where there is a cluster."""
        assert run.inputs.control is not None
        stress = run.wants_stress(geometry)
        text = engine_input(run.inputs.control, geometry, _species_dir(run), stress).text
        return self._spec(run, text, geometry, run.folder / "aims", stress)

    def atom_spec(self, run: EngineContext, atom: Geometry) -> EngineSpec:
        """The user's control.in without what is about the system.

        Raises
        ------
        AimsInputError
            If it does not do for the atom.
        """
        assert run.inputs.control is not None
        text = atomic_input(run.inputs.control, atom, _species_dir(run)).text
        symbol = chemical_symbols[int(atom.structure.numbers[0])]
        return self._spec(run, text, atom, run.folder / "aims" / f"atom_{symbol}")

    def _spec(
        self,
        run: EngineContext,
        text: str,
        geometry: Geometry,
        work_dir: Path,
        stress: bool = False,
    ) -> EngineSpec:
        if run.al.cluster is not None:
            assert run.al.cluster.aims_command is not None
            command = tuple(shlex.split(run.al.cluster.aims_command))
            return AimsCommandSpec(command, text, geometry, stress)
        assert run.al.aims_lib_path is not None
        library = run.settings.resolve(run.al.aims_lib_path)
        return AsiSpec(library, work_dir, text, geometry, stress)

    def one_system_per_process(self, settings: Settings) -> bool:
        """The library; a job of its own has a process of its own."""
        return settings.al.cluster is None

    def problems(self, run: EngineContext) -> Iterator[str]:
        """Of control.in, species defaults and library."""
        assert run.inputs.control is not None
        folder = _species_dir(run)
        for geometry in run.inputs.geometries:
            stress = run.wants_stress(geometry)
            for error in control_problems(run.inputs.control, geometry, folder, stress):
                if error.path == folder:
                    # What has to be corrected is the key that names the folder.
                    message = f"{error.what}: {error.expected}. {error.fix}"
                    yield run.problem("species_dir", message)
                else:
                    yield str(error)
        path = run.al.aims_lib_path  # None with a cluster, which runs the executable
        problem = None if path is None else library_problem(run.settings.resolve(path))
        if problem is not None:
            yield run.problem("aims_lib_path", problem)
        if run.al.cluster is not None and run.al.cluster.aims_command is not None:
            # Where blocks run elsewhere, or load modules first, another PATH holds.
            here = run.al.cluster.provider == "local" and not run.al.cluster.worker_init
            problem = command_problem(run.al.cluster.aims_command, here=here)
            if problem is not None:
                yield run.problem("cluster.aims_command", problem)

    def notes(self, run: EngineContext) -> Iterator[str]:
        """Radicals that are computed without spin; functionals that may have no stress."""
        assert run.inputs.control is not None
        for geometry in run.inputs.geometries:
            if run.wants_stress(geometry) and (note := stress_note(run.inputs.control)):
                yield note
            if note := aims_note(run.inputs.control, geometry.structure):
                yield note

    def added_to_inputs(self, run: EngineContext) -> tuple[str, ...]:
        """What is added to the user's control.in, for the log."""
        assert run.inputs.control is not None
        geometry = run.inputs.geometries[0]
        stress = run.wants_stress(geometry)
        return engine_input(run.inputs.control, geometry, _species_dir(run), stress).added


def _species_dir(run: EngineContext) -> Path | None:
    return _folder(run.settings)


def _folder(settings: Settings) -> Path | None:
    given = settings.al.species_dir
    return None if given is None else settings.resolve(given)
