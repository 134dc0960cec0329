"""Which files the settings name as the initial data, and what is to be read of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhi_al.active_learning.data_files import DataSource
from fhi_al.app.file_patterns import is_pattern, matching_files
from fhi_al.core.errors import InputError
from fhi_al.engines.inputs import Inputs
from fhi_al.labels.labelled_frames import LabelNames
from fhi_al.settings import Settings

KEY = "ACTIVE_LEARNING.initial_data"


def data_sources(settings: Settings, inputs: Inputs) -> list[DataSource]:
    """The files, each once; those of a pattern sorted by name.

    Parameters
    ----------
    settings : Settings
    inputs : Inputs
        For the names of the systems.

    Raises
    ------
    InputError
        With the paths at which there is no file, and files that are named twice.
    """
    problems: list[str] = []
    found: dict[Path, DataSource] = {}
    for entry in settings.al.initial_data or []:
        if entry.get("system") not in (None, *inputs.names):
            names = ", ".join(filter(None, inputs.names)) or "none has a name"
            message = f"no system {entry['system']}: expected one of SYSTEMS ({names})"
            problems.append(_problem(settings, message))
            continue
        paths = _paths(settings, str(entry["file"]))
        if not paths:
            problems.append(_problem(settings, _nothing_at(settings, str(entry["file"]))))
        for path in paths:
            if path in found:
                message = f"{path} is named twice: expected each file once. Take one entry out"
                problems.append(_problem(settings, message))
            found[path] = _source(settings, inputs, path, entry)
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return list(found.values())


def name_in(folder: Path, path: Path) -> str:
    """What a file is called in the state of a run, which may be moved with its folder."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def file_called(folder: Path, name: str) -> Path:
    """The file that :func:`name_in` called so."""
    return folder / name


def _paths(settings: Settings, given: str) -> list[Path]:
    path = settings.resolve(Path(given))
    if path.is_file() or not is_pattern(given):
        return [path] if path.is_file() else []
    return list(dict.fromkeys(sorted(one.resolve() for one in matching_files(settings, given))))


def _nothing_at(settings: Settings, given: str) -> str:
    if is_pattern(given):
        return f"no file matches {given} in {settings.folder}: expected some. Correct the pattern"
    return f"no file {settings.resolve(Path(given))}: expected one that ASE reads. Correct the path"


def _problem(settings: Settings, message: str) -> str:
    return str(settings.problem("active_learning", KEY, message))


def _source(settings: Settings, inputs: Inputs, path: Path, entry: dict[str, Any]) -> DataSource:
    al, system = settings.al, entry.get("system")
    names = LabelNames(
        entry.get("energy"), entry.get("forces"), entry.get("stress"), "its entry in initial_data"
    )
    return DataSource(
        path,
        name_in(settings.folder, path),
        names,
        entry.get("valid_ratio", al.valid_ratio),
        entry.get("test_ratio", al.test_ratio),
        None if system is None else inputs.names.index(system),
    )
