"""The kinds of reference engine that there are: ours, and those of installed packages.

The only place that tells kinds apart.  A package brings one by an entry point of the group
``fhi_al.engines``: the name that ``reference_engine`` gets, and an :class:`EngineKind`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from fhi_al.core.errors import InputError
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.kind import AL, EngineContext, EngineKind
from fhi_al.engines.spec import EngineSpec
from fhi_al.settings import Settings
from fhi_al.settings.engine_names import ARGUMENTS, BUILT_IN, GROUP, OBJECT
from fhi_al.settings.keys import keys_of
from fhi_al.settings.messages import broken_rule, instead
from fhi_al.settings.plugins import imported, of_packages
from fhi_al.settings.problems import nearest
from fhi_al.settings.value_types import Section

_BUILT_IN = {**BUILT_IN, OBJECT: "fhi_al.engines.own_object:OwnObject"}


def engine_kind(settings: Settings) -> EngineKind:
    """The kind of engine that the settings name.

    Raises
    ------
    InputError
        If a package that is installed does not give it.
    """
    name = settings.al.reference_engine
    try:
        kind = _loaded(name)()
    except Exception as error:  # of a package that is not ours
        why = f"the package that brings it cannot be used: {type(error).__name__}: {error}"
        raise InputError([_about(settings, "reference_engine", why)]) from error
    if not isinstance(kind, EngineKind):
        why = f"is {type(kind).__name__}: expected a subclass of fhi_al.engines.kind.EngineKind"
        raise InputError([_about(settings, "reference_engine", why)])
    return kind


def _loaded(name: str) -> type[EngineKind]:
    if name in _BUILT_IN:
        found: type[EngineKind] = imported(_BUILT_IN[name])
        return found
    (point,) = of_packages(GROUP).select(name=name)
    loaded: type[EngineKind] = point.load()
    return loaded


def completed(settings: Settings, inputs: Inputs) -> Inputs:
    """The inputs with what the engine's own files say of the systems, such as masses."""
    kind = engine_kind(settings)
    each = [
        kind.completed(_of_system(kind, settings, one), one).each[0] for one in inputs.one_by_one()
    ]
    return replace(inputs, each=tuple(each))


def engine_specs(folder: Path, settings: Settings, inputs: Inputs) -> list[EngineSpec]:
    """What builds the engine of each system, here or as a job where there is a cluster.

    Raises
    ------
    InputError
        If the settings are not for it.
    """
    kind = engine_kind(settings)
    specs = [
        kind.spec(_context(kind, folder, settings, one), one.geometries[0])
        for one in inputs.one_by_one()
    ]
    return specs if settings.al.cluster is None else [_as_job(settings, spec) for spec in specs]


def atom_spec(folder: Path, settings: Settings, inputs: Inputs, atom: Geometry) -> EngineSpec:
    """What builds the engine of an isolated atom, where its calculation will run.

    Raises
    ------
    InputError
        If the inputs do not do for it.
    """
    kind = engine_kind(settings)
    number = atom.structure.numbers[0]
    having_it = [one for one in inputs.one_by_one() if number in one.systems[0].numbers]
    try:
        run = _context(kind, folder, settings, having_it[0] if having_it else inputs)
        return kind.atom_spec(run, atom)
    except AimsInputError as error:
        raise InputError([str(error)]) from error


def one_system_per_process(settings: Settings) -> bool:
    """Whether a process that has computed one system can compute no other."""
    return engine_kind(settings).one_system_per_process(settings)


def left_out_of_atoms(settings: Settings, specs: Iterable[EngineSpec]) -> list[str]:
    """What of the user's arguments isolated atoms do not get, as ``name=value``."""
    kind = engine_kind(settings)
    return list(dict.fromkeys(n for spec in specs for n in kind.left_out_of_atom(settings, spec)))


def engine_problems(folder: Path, settings: Settings, inputs: Inputs) -> Iterator[str]:
    """What is known to be wrong with the engine before any calculation."""
    found: list[str] = []
    for one in inputs.one_by_one():
        try:
            kind = engine_kind(settings)
            run = _context(kind, folder, settings, one)
            found += _named(one, kind.problems(run))
            found += _named(one, _stress_problems(kind, run))
            if settings.al.cluster is not None:
                engine_specs(folder, settings, one)
        except InputError as error:
            found += error.problems
        except AimsInputError:
            pass  # said by the kind
    yield from dict.fromkeys(found)


def _stress_problems(kind: EngineKind, run: EngineContext) -> Iterator[str]:
    for geometry in run.inputs.geometries:
        if run.wants_stress(geometry) and (problem := kind.stress_problem(run, geometry)):
            yield run.settings.stress_problem(problem)


def engine_notes(folder: Path, settings: Settings, inputs: Inputs) -> list[str]:
    """What may not be meant, of inputs that are in order."""
    kind = engine_kind(settings)
    notes = [
        note
        for one in inputs.one_by_one()
        for note in _named(one, kind.notes(_context(kind, folder, settings, one)))
    ]
    return list(dict.fromkeys(notes))


def added_to_control(folder: Path, settings: Settings, inputs: Inputs) -> tuple[str, ...]:
    """What is added to the user's control.in, for the log."""
    kind = engine_kind(settings)
    added = [
        line
        for one in inputs.one_by_one()
        for line in kind.added_to_inputs(_context(kind, folder, settings, one))
    ]
    return tuple(dict.fromkeys(added))


def _as_job(settings: Settings, spec: EngineSpec) -> EngineSpec:
    job = spec.for_job()
    if job is None:
        why = f"{settings.al.reference_engine} cannot run as a job of its own. Take cluster out"
        raise InputError([_about(settings, "reference_engine", why)])
    return job


def _of_system(kind: EngineKind, settings: Settings, inputs: Inputs) -> Settings:
    """The settings with a system's own engine arguments."""
    if not inputs.each:
        return settings
    one = inputs.each[0]
    if one.is_apart:
        unpaired = abs(round(float(one.structure.initial_moments.sum())))
        common = settings.al.reference_arguments
        own = kind.arguments_apart(settings, common, unpaired)
        return settings.with_engine_arguments(own, left_out=common.keys() - own.keys())
    return settings.with_engine_arguments(one.arguments) if one.arguments else settings


def _named(inputs: Inputs, messages: Iterable[str]) -> Iterator[str]:
    """Messages about the engine that name the system, where it has a name and they do not."""
    for message in messages:
        name = inputs.each[0].name if inputs.each else ""
        where = str(inputs.each[0].geometry.path) if inputs.each else ""
        yield f"system {name}: {message}" if name and where not in message else message


def _context(kind: EngineKind, folder: Path, settings: Settings, inputs: Inputs) -> EngineContext:
    settings = _of_system(kind, settings, inputs)
    keys = None if kind.keys is None else _own_keys(kind.keys, settings)
    return EngineContext(folder, settings, inputs, keys)


def _own_keys(model: type[Section], settings: Settings) -> Section:
    """``reference_arguments`` as a kind's own model."""
    known, given, problems = keys_of(model), dict(settings.al.reference_arguments), []
    for name in [name for name in given if name not in known]:
        del given[name]
        near = nearest(name, known)
        hint = f"Did you mean {near}?" if near else f"Expected one of {', '.join(known)}."
        message = f"unknown key of {settings.al.reference_engine}. {hint}"
        problems.append(_about(settings, f"{ARGUMENTS}.{name}", message))
    try:
        keys = model.model_validate(given)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if not detail["loc"]:
                problems.append(_about(settings, ARGUMENTS, broken_rule(detail)))
                continue
            name = str(detail["loc"][0])
            value = f" (it is {given[name]})" if name in given else ""
            message = f"{instead(detail, known[name])}{value}"
            problems.append(_about(settings, f"{ARGUMENTS}.{name}", message))
    if problems:
        raise InputError(problems)
    return keys


def _about(settings: Settings, key: str, message: str) -> str:
    return str(settings.problem("active_learning", f"{AL}.{key}", message))
