"""The examples that are shipped with the package: which there are, and copies of them."""

from __future__ import annotations

from pathlib import Path

from fhi_al.core.errors import InputError
from fhi_al.settings.json_schema import KINDS, MODELINE, schema_path, with_schema_line
from fhi_al.settings.problems import nearest

FOLDER = Path(__file__).parents[2] / "examples"
# An example's own files.  In a checkout there may also be what a run has left there.
SUFFIXES = (".in", ".md", ".npz", ".py", ".sh", ".yaml", ".yml")
LEFT_BY_A_RUN = ("atomic_energies.yaml",)


def names() -> list[str]:
    """Names of the examples."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and files_of(path.name))


def files_of(name: str) -> dict[str, bytes]:
    """The files of an example: name -> content.

    Raises
    ------
    InputError
        If there is no such example.
    """
    folder = FOLDER / name
    if not folder.is_dir() or folder.parent != FOLDER:
        known = names()
        guess = nearest(name, known)
        hint = f" Did you mean {guess}?" if guess else ""
        raise InputError([f"--example {name}: unknown: expected one of {', '.join(known)}.{hint}"])
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix in SUFFIXES and path.name not in LEFT_BY_A_RUN and path.is_file()
    }


def copies_of(name: str) -> dict[str, bytes]:
    """The files of an example, of which the settings name the schemas where they are installed.

    Raises
    ------
    InputError
        If there is no such example.
    """
    return {file: _named(content) for file, content in files_of(name).items()}


def _named(content: bytes) -> bytes:
    first = content.partition(b"\n")[0].decode(errors="replace")
    for kind in KINDS:
        if MODELINE in first and schema_path(kind).name in first:
            return with_schema_line(content.decode(), kind).encode()
    return content


def runs(files: dict[str, bytes]) -> bool:
    """Whether an example is the folder of a run; the others are scripts."""
    return "active_learning_settings.yaml" in files
