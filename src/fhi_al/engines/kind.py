"""What a kind of reference engine is to the program: its keys, its checks, its specs.

A kind is one class, named by an entry point of the group ``fhi_al.engines``; the registry finds it.
Lives on rank 0 only: what other ranks get is a spec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.isolated_atom import arguments_of_atom
from fhi_al.engines.spec import EngineSpec
from fhi_al.settings import ActiveLearning, Settings
from fhi_al.settings.clash import Clash
from fhi_al.settings.engine_names import ARGUMENTS
from fhi_al.settings.value_types import Section

AL = "ACTIVE_LEARNING"


@dataclass(frozen=True, eq=False)
class EngineContext:
    """What a kind makes its specs from.

    Parameters
    ----------
    folder : Path
        The run's, absolute.
    settings : Settings
    inputs : Inputs
    keys : Section or None
        ``reference_arguments`` as the kind's own model; None for kinds without one.
    """

    folder: Path
    settings: Settings
    inputs: Inputs
    keys: Any = None

    @property
    def al(self) -> ActiveLearning:
        """The ACTIVE_LEARNING section."""
        return self.settings.al

    def wants_stress(self, geometry: Geometry) -> bool:
        """Whether the labels of a system are to have a stress."""
        return self.settings.computes_stress and geometry.structure.pbc

    def problem(self, key: str, message: str) -> str:
        """A problem with a key of ACTIVE_LEARNING, with its file, line and value."""
        return str(self.settings.problem("active_learning", f"{AL}.{key}", message))


class EngineKind(ABC):
    """A kind of reference engine.

    Attributes
    ----------
    keys : type of Section or None
        Model of the keys below ``reference_arguments``, with meanings, units, defaults and bounds
        (:func:`fhi_al.settings.value_types.setting`).  None: the kind looks at the settings itself.
    own_keys : tuple of str
        Keys of ACTIVE_LEARNING (``cluster.aims_command`` of ``cluster``) that the kind looks at and
        not all others do: given for an engine without them, they have no effect.
    energy : str
        Which energy a label has, for the documentation; its derivatives must be the forces.
    calls_are_collective : bool
        Whether several ranks share a calculation; as ``is_collective`` of its specs.
    needs_control : bool
        Whether it reads control.in.
    needs_job : bool
        Whether isolated atoms, too, are computed on the cluster, where there is one.
    has_stress : bool
        Whether its labels have a stress where ``GENERAL.compute_stress`` asks for it
        (:meth:`EngineContext.wants_stress`); the settings are refused otherwise.
    """

    keys: ClassVar[type[Section] | None] = None
    own_keys: ClassVar[tuple[str, ...]] = (ARGUMENTS,)
    energy: ClassVar[str] = "the one that the forces are derivatives of"
    calls_are_collective: ClassVar[bool] = False
    needs_control: ClassVar[bool] = False
    needs_job: ClassVar[bool] = False
    has_stress: ClassVar[bool] = False

    @classmethod
    def rules(cls, al: ActiveLearning) -> Iterator[Clash]:
        """Of a built-in kind: what is missing or contradicts itself among its keys."""
        yield from ()

    def completed(self, settings: Settings, inputs: Inputs) -> Inputs:
        """The inputs with what the kind's own files say of the systems, such as masses."""
        return inputs

    @abstractmethod
    def spec(self, run: EngineContext, geometry: Geometry) -> EngineSpec:
        """What builds the engine of a system."""
        ...

    def atom_spec(self, run: EngineContext, atom: Geometry) -> EngineSpec:
        """What builds the engine of an isolated atom, with Hund's moment as initial moment.

        What belongs to the whole system, such as a charge or a field, must not reach it.
        """
        return self.spec(run, atom)

    def arguments_apart(
        self, settings: Settings, arguments: Mapping[str, Any], unpaired: int
    ) -> dict[str, Any]:
        """``reference_arguments`` for some of the atoms alone, with so many unpaired electrons.

        Without what is of the whole system, such as a charge or a field.
        """
        return arguments_of_atom(arguments, unpaired)

    def left_out_of_atom(self, settings: Settings, spec: EngineSpec) -> list[str]:
        """What of the user's arguments an isolated atom does not get, as ``name=value``."""
        return []

    def one_system_per_process(self, settings: Settings) -> bool:
        """Whether a process that has computed one system can compute no other."""
        return False

    def problems(self, run: EngineContext) -> Iterator[str]:
        """What is known to be wrong without a calculation, as sentences: where, what, how to fix.

        :meth:`EngineContext.problem` makes one about a key.
        """
        yield from ()

    def stress_problem(self, run: EngineContext, geometry: Geometry) -> str | None:
        """Why labels of a periodic system would have no stress, as it is said of a key; or None."""
        if self.has_stress:
            return None
        return (
            f"reference_engine {run.al.reference_engine} gives no stress. Do without, or take"
            " another engine"
        )

    def notes(self, run: EngineContext) -> Iterator[str]:
        """What may not be meant, of inputs that are in order, as sentences without a full stop."""
        yield from ()

    def added_to_inputs(self, run: EngineContext) -> tuple[str, ...]:
        """What is added to the user's control.in, for the log."""
        return ()
