"""Put the files of a new run into a folder: all of them, checked before, or none."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fhi_al.app.definition import definition_of
from fhi_al.app.needs import Command
from fhi_al.app.prepare import notes_on_engine, prepare
from fhi_al.core.errors import InputError
from fhi_al.settings import SettingsError
from fhi_al.storage.atomic_file import write_atomically
from fhi_al.storage.folder_lock import require_no_file


@dataclass(frozen=True)
class Checked:
    """What a check of new inputs finds.

    Parameters
    ----------
    problems : tuple of str
        What keeps the run from beginning.
    notes : tuple of str
        What may not be meant.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]


def refuse_to_overwrite(folder: Path, names: Mapping[str, object]) -> None:
    """Raise if one of the files is there already, or a run.

    Raises
    ------
    InputError
        Naming them.
    """
    require_no_file(folder)
    there = [name for name in (*names, "restart") if (folder / name).exists()]
    if there:
        raise InputError(
            [
                f"{folder}: has {', '.join(there)} already: expected a folder without, for nothing"
                " is overwritten. Take another folder, or move them away."
            ]
        )


def checked(folder: Path, files: Mapping[str, bytes]) -> Checked:
    """Check files as ``--check`` does, before they are where they belong.

    Parameters
    ----------
    folder : Path
        Where they belong, which messages name.
    files : mapping
        Name -> content.
    """
    with tempfile.TemporaryDirectory(prefix="fhi-al-init-") as name:
        trial = Path(name).resolve()
        for path, content in files.items():
            (trial / path).write_bytes(content)
        notes: list[str] = []
        problems: list[str] = []
        try:
            notes = notes_on_engine(prepare(definition_of(trial), Command.ALL))
        except (SettingsError, InputError) as error:
            problems = [str(each) for each in error.problems]

        def named(messages: list[str]) -> tuple[str, ...]:
            return tuple(each.replace(str(trial), str(folder)) for each in messages)

        return Checked(named(problems), named(notes))


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files; the folder is made if need be."""
    for name, content in files.items():
        write_atomically(folder / name, content)
