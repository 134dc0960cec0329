"""What FHI_AL-al starts from where there is no initial dataset: the user's own data and models."""

from __future__ import annotations

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
    return read_initial_data(files, inputs.systems[0])


def _files(settings: Settings) -> InitialFiles:
    mace, al = settings.mace, settings.al
    assert mace is not None
    general = mace.general
    return initial_files(
        settings.resolve(al.dataset_dir),
        settings.resolve(general.model_dir),
        member_names(general.name_exp, member_seeds(general.seed, al.ensemble_size)),
    )
