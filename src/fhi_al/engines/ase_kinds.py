"""ASE calculators as kinds of engine: any of them by its import path, and tblite by its methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fhi_al.core.errors import EngineError
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.ase_import import (
    calculator_problem,
    declared_properties,
    default_arguments,
)
from fhi_al.engines.isolated_atom import arguments_of_atom, left_out
from fhi_al.engines.kind import AL, EngineContext, EngineKind
from fhi_al.engines.open_shell import tblite_note
from fhi_al.engines.spec import TBLITE, AseSpec, EngineSpec
from fhi_al.engines.tblite import is_tblite, system_problem, tblite_spec
from fhi_al.settings import ActiveLearning, Settings
from fhi_al.settings.clash import Clash
from fhi_al.settings.engine_names import ARGUMENTS


class AseCalculator(EngineKind):
    """Any ASE calculator, by its import path."""

    own_keys: ClassVar[tuple[str, ...]] = (
        "reference_calculator",
        ARGUMENTS,
        "reuse_calculator",
        "scf_warm_start",
    )
    energy = "the calculator's free_energy where it has it, else its energy"
    has_stress = True

    @classmethod
    def rules(cls, al: ActiveLearning) -> Iterator[Clash]:
        """The calculator must be named."""
        if al.reference_calculator is None:
            yield Clash(
                (f"{AL}.reference_calculator", f"{AL}.reference_engine"),
                "missing; the ase engine needs the import path of a calculator, such as"
                " ase.calculators.emt.EMT",
                about_value=False,
            )

    def spec(self, run: EngineContext, geometry: Geometry) -> AseSpec:
        """The calculator with the user's arguments."""
        return self._spec(run, geometry, run.al.reference_arguments)

    def atom_spec(self, run: EngineContext, atom: Geometry) -> AseSpec:
        """The calculator without the arguments that are about the whole system."""
        unpaired = round(float(atom.structure.initial_moments[0]))
        arguments = self.arguments_apart(run.settings, run.al.reference_arguments, unpaired)
        return self._spec(run, atom, arguments)

    def arguments_apart(
        self, settings: Settings, arguments: Mapping[str, Any], unpaired: int
    ) -> dict[str, Any]:
        """As of an isolated atom."""
        try:
            defaults = default_arguments(self._path(settings.al))
        except EngineError:  # said of the run's own systems
            defaults = {}
        return arguments_of_atom(arguments, unpaired, defaults)

    def left_out_of_atom(self, settings: Settings, spec: EngineSpec) -> list[str]:
        """Arguments that are about the whole system."""
        assert isinstance(spec, AseSpec)
        return left_out(settings.al.reference_arguments, spec.arguments)

    def problems(self, run: EngineContext) -> Iterator[str]:
        """Of the calculator's import path and arguments; of the system, where tblite can tell."""
        for geometry in run.inputs.geometries:
            spec = self.spec(run, geometry)
            problem = calculator_problem(spec)
            if problem is None and is_tblite(spec.calculator):
                problem = system_problem(spec)
            if problem is not None:
                yield run.problem(self._key(run), problem)

    def stress_problem(self, run: EngineContext, geometry: Geometry) -> str | None:
        """A calculator whose class says what it computes, and no stress among it."""
        path = self._calculator(run)
        declared = declared_properties(path)
        if not declared or "stress" in declared:
            return None
        return (
            f"{path} computes {', '.join(declared)}, no stress. Do without, or take another"
            " calculator"
        )

    def notes(self, run: EngineContext) -> Iterator[str]:
        """Radicals that tblite computes without spin."""
        for geometry in run.inputs.geometries:
            spec = self.spec(run, geometry)
            if is_tblite(spec.calculator):
                note = tblite_note(spec.structure, spec.arguments, geometry.path.name)
                if note:
                    yield note

    def _calculator(self, run: EngineContext) -> str:
        return self._path(run.al)

    def _path(self, al: ActiveLearning) -> str:
        assert al.reference_calculator is not None
        return al.reference_calculator

    def _key(self, run: EngineContext) -> str:
        return "reference_calculator"

    def _spec(self, run: EngineContext, geometry: Geometry, arguments: dict[str, Any]) -> AseSpec:
        return AseSpec(
            self._calculator(run),
            geometry.structure,
            arguments,
            stress=run.wants_stress(geometry),
            cold_start=not run.al.scf_warm_start,
            reuse=run.al.reuse_calculator,
        )


class TBLite(AseCalculator):
    """GFN1-xTB and GFN2-xTB."""

    own_keys = ("reference_method", ARGUMENTS, "scf_warm_start")
    energy = "tblite's total energy, which holds the electronic entropy: the free energy"

    @classmethod
    def rules(cls, al: ActiveLearning) -> Iterator[Clash]:
        """The method is a key of its own."""
        if "method" in al.reference_arguments:
            yield Clash(
                (f"{AL}.{ARGUMENTS}", f"{AL}.reference_engine"),
                "the method is set by reference_method; remove it here",
            )

    def _path(self, al: ActiveLearning) -> str:
        return TBLITE

    def _key(self, run: EngineContext) -> str:
        return "reference_arguments" if run.al.reference_arguments else "reference_engine"

    def _spec(self, run: EngineContext, geometry: Geometry, arguments: dict[str, Any]) -> AseSpec:
        return tblite_spec(
            run.al.reference_method,
            geometry.structure,
            arguments,
            stress=run.wants_stress(geometry),
            scf_warm_start=run.al.scf_warm_start,
        )
