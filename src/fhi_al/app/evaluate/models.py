"""The models that ``FHI_AL-evaluate`` judges: found, read, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from fhi_al.app import checks
from fhi_al.app.evaluate.order import EvaluateOrder
from fhi_al.app.fine_tuning import model_settings, with_foundation
from fhi_al.core.errors import InputError
from fhi_al.core.structure import Array
from fhi_al.models.file_models import FileModel, FilesPredictor
from fhi_al.models.file_names import final_models
from fhi_al.models.interface import InferenceWeights
from fhi_al.settings import Settings
from fhi_al.settings.keys import FILE_NAMES


@dataclass(frozen=True, eq=False)
class EvaluatedModels:
    """The models, read.

    Parameters
    ----------
    files : tuple of FileModel
    """

    files: tuple[FileModel, ...]

    @property
    def names(self) -> list[str]:
        """What tables call them: their files' names, or paths where two have the same."""
        names = [one.path.name for one in self.files]
        return names if len(set(names)) == len(names) else [str(one.path) for one in self.files]

    @property
    def predictor(self) -> FilesPredictor:
        """Predicts with all."""
        return FilesPredictor(self.files)

    def missing(self, numbers: Array | Iterable[int]) -> list[str]:
        """Symbols of the elements that some model does not know."""
        wanted = {int(number) for number in numbers}
        known = set.intersection(*(set(one.elements) for one in self.files))
        return [chemical_symbols[z] for z in sorted(wanted - known)]


def run_settings(folder: Path, given: Sequence[str] = ()) -> Settings | None:
    """The settings of the run in a folder; None if there is none.

    Parameters
    ----------
    folder : Path
    given : sequence of str
        Keys over what the files say, ``SECTION.key=VALUE``.

    Raises
    ------
    SettingsError
        With all that is wrong with them.
    """
    from fhi_al.settings import read_settings

    if not (folder / FILE_NAMES["active_learning"]).is_file():
        return None
    has_models = (folder / FILE_NAMES["mace"]).is_file()
    return read_settings(folder, needs_mace=has_models, given=given)


def read_models(folder: Path, order: EvaluateOrder, settings: Settings | None) -> EvaluatedModels:
    """Find and read the models.

    Parameters
    ----------
    folder : Path
        Of the run, if there is one.
    order : EvaluateOrder
    settings : Settings or None
        Of that run.

    Raises
    ------
    InputError
        With all that is wrong with them.
    """
    problem = _device_problem(order.device)
    if problem is not None:
        raise InputError([f"--device: {problem}"])
    given = tuple(path.resolve() for path in order.models) or _of_run(folder, settings)
    twice = sorted({one for one in given if given.count(one) > 1})
    if twice:
        raise InputError([f"{twice[0]}: named twice: expected each model once. Take one out."])
    if settings is not None and settings.al.model_backend != "mace":
        return EvaluatedModels(tuple(_of_backend(settings, given, order)))
    from fhi_al.models.mace.model_files import MaceFiles

    files = MaceFiles(order.device, order.dtype)
    problems: list[str] = []
    found: list[FileModel] = []
    for path in given:
        if not path.is_file():
            problems.append(f"{path}: no such file: expected a MACE model. Correct the path.")
            continue
        try:
            found.append(files.model(path, order.head))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise InputError(problems)
    return EvaluatedModels(tuple(found))


def _device_problem(device: str) -> str | None:
    from fhi_al.models.ensemble import device_problem

    return device_problem(device)


def _of_run(folder: Path, settings: Settings | None) -> tuple[Path, ...]:
    """The final models of the run in a folder."""
    where = folder / "model"
    if settings is not None and settings.mace is not None:
        where = settings.resolve(settings.mace.general.model_dir)
    found = final_models(where)
    if not found:
        raise InputError(
            [
                f"{where}: no models (*.model): expected those of a finished run. Name model files"
                " on the command line, or give --workdir DIR of a run that has some."
            ]
        )
    return tuple(found)


def _of_backend(
    settings: Settings, given: Sequence[Path], order: EvaluateOrder
) -> Iterator[FileModel]:
    """Models of the run's own kind, whose files need its settings to be read."""
    from fhi_al.models.ensemble import Ensemble

    if settings.mace is None:
        name = FILE_NAMES["mace"]
        raise InputError(
            [
                f"{settings.folder / name}: no such file: expected the settings of the models, for"
                f" model_backend is {settings.al.model_backend}. Put it there."
            ]
        )
    settings = with_foundation(settings)
    elements = checks.elements(checks.read_inputs(settings))
    mace: Any = model_settings(settings)
    ensemble = Ensemble(mace, elements, range(len(given)), order.device)
    problems: list[str] = []
    for member, path in zip(ensemble.members, given, strict=True):
        try:
            ensemble.load_exported(path, member.index)
        except FileNotFoundError:
            problems.append(f"{path}: no such file: expected a model. Correct the path.")
            continue
        except ValueError as error:
            problems.append(str(error))
            continue
        model = ensemble.backend.inference(order.dtype)
        weights = member.inference_model.weights()
        model.load(InferenceWeights(weights.tensors, weights.normalisation))
        yield FileModel(path, ensemble.backend, model)
    if problems:
        raise InputError(problems)
