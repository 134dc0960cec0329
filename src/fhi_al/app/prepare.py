"""What a run needs before it begins: its inputs read, checked and matched with what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.active_learning.restart import (
    Continuation,
    continuation,
    misfit,
    saved_names,
    saved_run,
    saved_settings,
)
from fhi_al.app import checks
from fhi_al.app.added_systems import budget_problems
from fhi_al.app.definition import Definition
from fhi_al.app.derived import with_derived
from fhi_al.app.fine_tuning import with_foundation
from fhi_al.app.initial_data import files_changed, initial_data
from fhi_al.app.needs import Command, Needs, needs_of
from fhi_al.app.process_set_up import Process
from fhi_al.app.rank_assignment import rank_layout
from fhi_al.app.systems_apart import system_names
from fhi_al.app.work_ahead import work_ahead
from fhi_al.core.errors import InputError
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.registry import added_to_control, engine_notes
from fhi_al.parallel.layout import table
from fhi_al.parallel.threads import training_threads
from fhi_al.settings import Settings
from fhi_al.settings.changes import changes
from fhi_al.storage.folder_lock import require_no_file

if TYPE_CHECKING:
    from fhi_al.active_learning.initial_data import InitialData

Define = Callable[[], Definition]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that can be begun or continued: its inputs are in order.

    Parameters
    ----------
    definition : Definition
    found : Continuation or None
        What the run continues from.
    needs : Needs
        What the command still has to do.
    initial_data : InitialData or None
        Labels of the user's that it has not taken in yet.
    command : Command
        What it is for.
    """

    definition: Definition
    found: Continuation | None
    needs: Needs
    initial_data: InitialData | None
    command: Command = Command.ALL

    @property
    def restart(self) -> Path:
        """Folder of the state to continue from."""
        return self.definition.folder / "restart"


def prepare(definition: Definition, command: Command) -> Prepared:
    """A run, checked for what a command still has to do with it.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    SnapshotError
        If the folder holds a run that these inputs cannot continue.
    """
    folder = definition.folder
    restart = folder / "restart"
    require_no_file(restart)
    saved, found = saved_run(restart), None
    if saved is not None:
        kept = definition.settings.with_values_of(saved_settings(saved))
        definition = replace(definition, settings=kept)
    inputs = with_derived(definition.settings, definition.inputs)
    if saved is not None:
        inputs = _in_saved_order(inputs, saved_names(saved), restart)
        found = continuation(restart, saved, definition.values(), inputs.systems, changes)
    settings = definition.settings
    if found is not None:
        inputs = inputs.with_masses(found.masses)
    needs = needs_of(command, found.stage if found else None, tests=settings.al.final_test != 0)
    if needs.models:  # a finished run needs no foundation model any more
        settings = with_foundation(settings)
    problems: list[str] = []
    data = None
    try:
        checks.check(folder, settings, inputs, needs)
    except InputError as error:
        problems += error.problems
    if found is not None and found.added:
        problems += budget_problems(settings, restart)
    try:
        data = initial_data(settings, inputs, found, needs)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    definition = replace(definition, settings=settings, inputs=inputs)
    return Prepared(definition, found, needs, data, command)


def _in_saved_order(inputs: checks.Inputs, names: Sequence[str], restart: Path) -> checks.Inputs:
    try:
        return inputs.in_order(names)
    except KeyError as gone:
        why = f"system {gone.args[0]} is gone (others may be added)"
        raise misfit(restart, f"these inputs were changed: SYSTEMS: {why}") from gone


def checked(define: Define, process: Process, command: Command = Command.ALL) -> list[str]:
    """What ``--check`` prints for inputs without problems.

    Parameters
    ----------
    define : callable
        () -> Definition: reads a folder's files, or puts Python objects together.
    process : Process
    command : Command

    Raises
    ------
    SettingsError, InputError, SnapshotError
        With all problems found.
    LabelStoreError
        If the labels in the folder are not those of these inputs.
    """
    run = prepare(define(), command)
    folder, settings = run.definition.folder, run.definition.settings
    inputs, found, needs = run.definition.inputs, run.found, run.needs
    lacking: str | None = None
    if needs.labels:
        # Imported here: wiring takes MPI and more, which a check of settings can do without.
        from fhi_al.app.label_supply import require_same_engines

        lacking = require_same_engines(folder, settings, inputs)
    begun = [] if found is None else [f"continues the run in restart/: {found.stage}"]
    added = added_to_control(folder, settings, inputs) if needs.labels else ()
    return [
        settings.as_yaml("mace"),
        settings.as_yaml("active_learning"),
        *(
            f"note: {note}"
            for note in [*settings.notes, *notes_on_engine(run), *notes_on_data(run)]
        ),
        *([f"restart/labels.jsonl: {lacking}"] if lacking else []),
        *(f"added to control.in: {line}" for line in added),
        *work_ahead(settings, inputs, needs),
        *(_layout_of(settings, process, inputs if needs.labels else None) if needs.models else []),
        *begun,
        *(run.initial_data.described() if run.initial_data else []),
        *(f"changed since the snapshot: {change}" for change in (found.changes if found else [])),
        "all inputs are in order; nothing was run",
    ]


def notes_on_data(run: Prepared) -> list[str]:
    """What is not used of the user's files, of a run whose initial dataset is complete."""
    if run.found is None or run.found.stage.is_initial or run.needs.is_nothing:
        return []
    return files_changed(run.definition.settings, run.found)


def notes_on_engine(run: Prepared) -> list[str]:
    """What may not be meant, if the engine is still needed."""
    if not run.needs.labels:
        return []
    given = run.definition
    return engine_notes(given.folder, given.settings, given.inputs)


def _layout_of(settings: Settings, process: Process, inputs: Inputs | None) -> list[str]:
    """Which rank would do what.

    Raises
    ------
    InputError
        If there are not enough ranks; a check on one rank, as on a login node, only says so.
    """
    assert settings.mace is not None
    try:
        layout = rank_layout(settings, process.placements, inputs)
    except InputError as error:
        if len(process.placements) > 1:
            raise
        return [f"layout: this check has one rank, the run needs more: {error}"]
    threads = training_threads(settings.mace.misc.num_threads, layout, process.placements)
    names = [] if inputs is None else system_names(inputs)
    return table(layout, process.placements, threads, settings.mace.misc.device, names)
