"""Labels and models of the user's that a run starts from, where it has not done so yet."""

from __future__ import annotations

import math
from dataclasses import replace

from fhi_al.active_learning.data_files import fingerprint, read_data_files
from fhi_al.active_learning.imported_frames import Expected
from fhi_al.active_learning.initial_data import (
    InitialData,
    InitialFiles,
    initial_files,
    read_initial_data,
)
from fhi_al.active_learning.matching import ExpectedSystem
from fhi_al.active_learning.restart import Continuation
from fhi_al.app import checks
from fhi_al.app.data_sources import KEY, data_sources, file_called
from fhi_al.app.needs import Needs
from fhi_al.core.errors import InputError
from fhi_al.core.members import member_names, member_seeds
from fhi_al.core.structure import Structure
from fhi_al.engines.inputs import Inputs
from fhi_al.settings import Settings


def initial_data(
    settings: Settings, inputs: Inputs, found: Continuation | None, needs: Needs
) -> InitialData | None:
    """What the user brings, read and checked; None if the run has it already, or needs none.

    Parameters
    ----------
    settings, inputs
    found : Continuation or None
        Of the run in the folder.
    needs : Needs

    Raises
    ------
    InputError
        With all problems found.
    """
    if found is not None and not found.stage.is_initial:
        return None
    if needs.initial_data and found is not None and found.has_sampled:
        raise InputError(
            [
                f"{settings.folder / 'restart'}: the initial dataset there is not finished: "
                "expected a finished one. Run FHI_AL-initial-ds (or FHI_AL) again: it goes on "
                "where it was."
            ]
        )
    if found is not None and found.initial_data:
        changed = files_changed(settings, found)
        if changed:
            raise InputError(changed)
        return None
    if needs.initial_data:
        return _instead_of_sampling(settings, inputs)
    return None if settings.al.initial_data is None else _of_files(settings, inputs)


def files_changed(settings: Settings, found: Continuation) -> list[str]:
    """Files that are no longer what the run has taken in; those that are gone are not missed."""
    messages = []
    for file in found.initial_data:
        path = file_called(settings.folder, file.name)
        try:
            same = fingerprint(path) == file.sha256
        except OSError:
            continue
        if not same:
            messages.append(
                f"{path}: was changed since the run took its {file.n_labels} labels in, which it "
                "goes on with: expected the same file. Put it back or remove it, or start in a new "
                "folder with the changed one."
            )
    return messages


def _instead_of_sampling(settings: Settings, inputs: Inputs) -> InitialData:
    """What FHI_AL-al starts from."""
    files = _files(settings)
    missing = [str(path) for path in files.missing()]
    if not missing:
        data = _with_models(settings, inputs, files)
        if settings.al.initial_data is None:
            return data
        note = (
            f"{KEY}: not used: there are sets and models of an initial phase. Remove these "
            "to train models on the files"
        )
        return replace(data, notes=(*data.notes, note))
    if settings.al.initial_data is None:
        raise InputError(
            [
                f"{settings.folder / 'restart'}: holds no finished initial dataset, and of the "
                f"files to start from these are missing: {', '.join(missing)}. Run "
                "FHI_AL-initial-ds first, or put the files there (GENERAL.seed and "
                f"GENERAL.name_exp decide their names), or give {KEY}."
            ]
        )
    data = _of_files(settings, inputs)
    if data.without:
        message = (
            f"no labels of {', '.join(data.without)}: expected some of every system, for FHI_AL-al "
            "samples none. Add some, or run FHI_AL"
        )
        raise InputError([str(settings.problem("active_learning", KEY, message))])
    if not data.is_enough:
        message = (
            f"{data.n_labels} labels for {settings.al.ensemble_size} members: expected for each at "
            "least one to train on and one to validate on, for FHI_AL-al samples none. Add some, "
            "look at valid_ratio and test_ratio, or run FHI_AL"
        )
        raise InputError([str(settings.problem("active_learning", KEY, message))])
    return data


def _of_files(settings: Settings, inputs: Inputs) -> InitialData:
    al = settings.al
    data = read_data_files(
        data_sources(settings, inputs),
        _expected(settings, inputs),
        al.ensemble_size,
        shared=al.initial_sets != "own",
    )
    has_labels = {label.system for label in data.labels()}
    without = tuple(
        one.name or one.geometry.path.name
        for index, one in enumerate(inputs.each)
        if one.moves and index not in has_labels
    )
    if not without:
        return data
    note = f"{KEY}: no labels of {', '.join(without)}: points are sampled before training begins"
    return replace(data, without=without, notes=(*data.notes, note))


def _with_models(settings: Settings, inputs: Inputs, files: InitialFiles) -> InitialData:
    problems, e0s, source = _models(settings, inputs, files)
    expected = _expected(settings, inputs, e0s, source)
    data = None
    try:
        data = read_initial_data(files, expected)
    except InputError as error:
        problems = [*error.problems, *problems]
    if data is None or problems:
        raise InputError(problems)
    return data


def _expected(
    settings: Settings, inputs: Inputs, e0s: dict[int, float] | None = None, source: str = ""
) -> Expected:
    """What frames must agree with.

    Parameters
    ----------
    settings, inputs
    e0s : dict, optional
        Atomic number -> E0 in eV, where the settings give none.
    source : str
        Whose these are.
    """
    assert settings.mace is not None
    given = settings.mace.architecture.atomic_energies
    if given:
        e0s, source = given, "ARCHITECTURE.atomic_energies"
    systems = [
        ExpectedSystem(
            one.name or one.geometry.path.name,
            one.structure,
            _e0_sum(one.structure, e0s or {}),
            f"the sum of the E0s ({source})",
        )
        for one in inputs.each
    ]
    return Expected(
        systems,
        checks.geometry_limits(settings),
        checks.label_limits(settings),
        settings.computes_stress,
    )


def _e0_sum(system: Structure, e0s: dict[int, float]) -> float | None:
    """In eV; None if one is missing."""
    if not all(int(number) in e0s for number in system.numbers):
        return None
    return math.fsum(e0s[int(number)] for number in system.numbers)


def _models(
    settings: Settings, inputs: Inputs, files: InitialFiles
) -> tuple[list[str], dict[int, float] | None, str]:
    """What is wrong with the models; the E0s of the first good one, in eV, and its name."""
    # Imported here: only reading models needs torch.
    from fhi_al.models.ensemble import Ensemble

    mace = settings.mace
    assert mace is not None
    # Where and how fast they run does not matter here, and is checked elsewhere.
    misc = mace.misc.model_copy(update={"device": "cpu", "enable_cueq": False})
    plain = mace.model_copy(update={"misc": misc})
    elements = checks.elements(inputs)
    ensemble = Ensemble(plain, elements, range(len(files.models)))
    problems: list[str] = []
    e0s: dict[int, float] | None = None
    source = ""
    for index, path in enumerate(files.models):
        try:
            ensemble.load_exported(path, index)
        except ValueError as error:
            problems.append(str(error))
            continue
        if not ensemble.members[index].is_finite():
            problems.append(
                f"{path}: holds weights that are not finite: expected a model of numbers. Train it "
                "again, or take another."
            )
            continue
        if e0s is None:
            of_elements = ensemble.members[index].normalisation.atomic_energies
            e0s, source = dict(zip(elements, of_elements, strict=True)), str(path)
    return problems, e0s, source


def _files(settings: Settings) -> InitialFiles:
    mace, al = settings.mace, settings.al
    assert mace is not None
    general = mace.general
    return initial_files(
        settings.resolve(al.dataset_dir),
        settings.resolve(general.model_dir),
        member_names(general.name_exp, member_seeds(general.seed, al.ensemble_size)),
    )
