"""What FHI_AL-al starts from where there is no initial dataset: the user's own data and models."""

from __future__ import annotations

import math

from fhi_al.active_learning.imported_frames import Expected
from fhi_al.active_learning.initial_data import (
    InitialData,
    InitialFiles,
    initial_files,
    read_initial_data,
)
from fhi_al.active_learning.restart import Continuation
from fhi_al.app import checks
from fhi_al.core.errors import InputError
from fhi_al.core.members import member_names, member_seeds
from fhi_al.core.structure import Structure
from fhi_al.settings import Settings


def initial_data(
    settings: Settings, inputs: checks.Inputs, found: Continuation | None
) -> InitialData:
    """The data and models that the user brings, read and checked.

    Parameters
    ----------
    settings, inputs
    found : Continuation or None
        Of the run in the folder, which must not have begun an initial dataset of its own.

    Raises
    ------
    InputError
        With all problems found.
    """
    if found is not None and found.has_sampled:
        raise InputError(
            [
                f"{settings.folder / 'restart'}: the initial dataset there is not finished: "
                "expected a finished one. Run FHI_AL-initial-ds (or FHI_AL) again: it goes on "
                "where it was."
            ]
        )
    files = _files(settings)
    missing = [str(path) for path in files.missing()]
    if missing:
        raise InputError(
            [
                f"{settings.folder / 'restart'}: holds no finished initial dataset, and of the "
                f"files to start from these are missing: {', '.join(missing)}. Run "
                "FHI_AL-initial-ds first, or put the files there (GENERAL.seed and "
                "GENERAL.name_exp decide their names)."
            ]
        )
    problems, e0_sum, source = _models(settings, inputs, files)
    given = _e0_sum(settings, inputs.systems[0])
    if given is not None:
        e0_sum, source = given, "the sum of the E0s (ARCHITECTURE.atomic_energies)"
    expected = Expected(
        inputs.systems[0],
        checks.geometry_limits(settings),
        checks.label_limits(settings),
        e0_sum,
        source,
        settings.computes_stress,
    )
    data = None
    try:
        data = read_initial_data(files, expected)
    except InputError as error:
        problems = [*error.problems, *problems]
    if data is None or problems:
        raise InputError(problems)
    return data


def _models(
    settings: Settings, inputs: checks.Inputs, files: InitialFiles
) -> tuple[list[str], float | None, str]:
    """What is wrong with the models; the sum of the E0s of the first good one, and its name."""
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
    e0_sum, source = None, ""
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
        if e0_sum is None:
            e0s = dict(
                zip(elements, ensemble.members[index].normalisation.atomic_energies, strict=True)
            )
            e0_sum = math.fsum(e0s[int(number)] for number in inputs.systems[0].numbers)
            source = f"the sum of the E0s of {path}"
    return problems, e0_sum, source


def _e0_sum(settings: Settings, system: Structure) -> float | None:
    """Sum of the E0s that the user gave, in eV; None without any, or if one is missing."""
    assert settings.mace is not None
    given = settings.mace.architecture.atomic_energies or {}
    if not all(int(number) in given for number in system.numbers):
        return None
    return math.fsum(given[int(number)] for number in system.numbers)


def _files(settings: Settings) -> InitialFiles:
    mace, al = settings.mace, settings.al
    assert mace is not None
    general = mace.general
    return initial_files(
        settings.resolve(al.dataset_dir),
        settings.resolve(general.model_dir),
        member_names(general.name_exp, member_seeds(general.seed, al.ensemble_size)),
    )
