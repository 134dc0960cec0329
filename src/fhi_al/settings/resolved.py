"""The resolved settings of a run: every value of both files, and the file and line it is from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fhi_al.settings.active_learning import (
    ActiveLearning,
    ActiveLearningMisc,
    ActiveLearningSettings,
)
from fhi_al.settings.changes import is_kept
from fhi_al.settings.checked_file import CheckedFile
from fhi_al.settings.keys import FILE_NAMES, key_at
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.md import MolecularDynamics
from fhi_al.settings.problems import Problem, shown
from fhi_al.settings.systems import System
from fhi_al.settings.value_types import Section
from fhi_al.settings.yaml_writing import in_one_line

FileKind = Literal["mace", "active_learning"]


@dataclass(frozen=True)
class Settings:
    """Both settings files, validated; equal if all values are.

    Parameters
    ----------
    mace : MaceSettings or None
        None if it was not asked for.
    active_learning : ActiveLearningSettings
    folder : Path
        The run's folder, which relative paths count from.
    notes : tuple of str
        What the user should know: keys that are superseded or have no effect; what will not
        happen as written.
    stress_option : str or None
        An option of the command that asks for the stress, whatever the files say.
    """

    mace: MaceSettings | None
    active_learning: ActiveLearningSettings
    folder: Path = field(compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    _files: dict[str, CheckedFile] = field(default_factory=dict, compare=False, repr=False)
    stress_option: str | None = None

    @property
    def al(self) -> ActiveLearning:
        """The ACTIVE_LEARNING section."""
        return self.active_learning.active_learning

    @property
    def md(self) -> tuple[MolecularDynamics, ...]:
        """The blocks of the MD section, as they are given; see :func:`md_blocks`."""
        return self.active_learning.md

    @property
    def systems(self) -> tuple[System, ...]:
        """The blocks of the SYSTEMS section; one of defaults if there is none."""
        return self.active_learning.systems

    @property
    def misc(self) -> ActiveLearningMisc:
        """The MISC section of the active-learning settings."""
        return self.active_learning.misc

    @property
    def computes_stress(self) -> bool:
        """Whether labels have a stress; without models only where an option asks for it."""
        by_file = self.mace is not None and self.mace.general.compute_stress
        return by_file or self.stress_option is not None

    def stress_problem(self, message: str) -> str:
        """A problem with what asks for the stress: the option, or the key."""
        if self.stress_option is not None:
            return f"{self.stress_option}: {message}."
        return str(self.problem("mace", "GENERAL.compute_stress", message))

    def resolve(self, path: Path) -> Path:
        """An absolute path: relative ones count from the run's folder, ``~`` is the home folder."""
        return (self.folder / path.expanduser()).resolve()

    def problem(self, file_kind: FileKind, key_path: str, message: str) -> Problem:
        """A problem found later, with the file, line and value of the key it comes from.

        Parameters
        ----------
        file_kind : {"mace", "active_learning"}
        key_path : str
            ``SECTION.key``, such as ``ACTIVE_LEARNING.species_dir``, or ``SECTION.key.key``.
        message : str
            What was expected and how to fix it.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        within = key_path.rpartition(".")[0]
        if not isinstance(self._files[file_kind].value(within), dict):
            key_at(file_kind, key_path, self._files[file_kind].layout)  # raises
        return self._files[file_kind].problem(key_path, message)

    def values(self) -> dict[str, Any]:
        """Every value by ``SECTION.key`` (``MISC`` of both files together), as JSON can hold it."""
        found: dict[str, Any] = {}
        for checked in self._files.values():
            for section, blocks in checked.blocks.items():
                for index, block in enumerate(blocks):
                    label = section if len(blocks) == 1 else f"{section}[{index}]"
                    plain = block.model_dump(mode="json", by_alias=True)
                    found |= {f"{label}.{key}": value for key, value in plain.items()}
        return found

    def given(self, file_kind: FileKind) -> Collection[str]:
        """The labels ``SECTION.key`` of the keys that a file gives."""
        return self._files[file_kind].given

    def with_section(self, file_kind: FileKind, name: str, section: Section) -> Settings:
        """The settings with another section of one block."""
        files = dict(self._files)
        checked = files[file_kind]
        files[file_kind] = replace(checked, blocks={**checked.blocks, name: (section,)})
        return self._of(files, self.notes)

    def with_values_of(self, before: Mapping[str, Any]) -> Settings:
        """The settings, with a run's earlier values of keys that no file gives.

        Another version of the program may have had another default.  Not of keys that may change in
        a run under way.

        Parameters
        ----------
        before : mapping
            As from :meth:`values`, when the run was last saved.
        """
        files, notes = dict(self._files), list(self.notes)
        now = self.values()
        for kind, checked in self._files.items():
            blocks = dict(checked.blocks)
            for section, of_section in checked.blocks.items():
                for index, block in enumerate(of_section):
                    name = section if len(of_section) == 1 else f"{section}[{index}]"
                    kept = {
                        key: before[label]
                        for key in block.model_dump(by_alias=True)
                        if (label := f"{name}.{key}") not in checked.given
                        and is_kept(label, before, now)
                    }
                    if not kept:
                        continue
                    values = block.model_dump(by_alias=True) | kept
                    one = type(block).model_validate(values)
                    done = blocks[section]
                    blocks[section] = (*done[:index], one, *done[index + 1 :])
                    notes += [
                        f"{name}.{key}: {shown(value)}, with which the run began, not the"
                        f" default of now, {shown(now[f'{name}.{key}'])}."
                        for key, value in kept.items()
                    ]
            files[kind] = replace(checked, blocks=blocks)
        return self._of(files, tuple(notes))

    def _of(self, files: dict[str, CheckedFile], notes: tuple[str, ...]) -> Settings:
        """The same settings but for what the files say."""
        mace = self.mace
        if mace is not None:
            contents = files["mace"].sections()
            mace = MaceSettings(**contents, backend=mace.backend, backend_class=mace.backend_class)
        active_learning = ActiveLearningSettings(**files["active_learning"].sections())
        return replace(self, mace=mace, active_learning=active_learning, notes=notes, _files=files)

    def with_engine_arguments(
        self, arguments: Mapping[str, Any], left_out: Collection[str] = ()
    ) -> Settings:
        """The settings with more, or other, ``reference_arguments``, and without some."""
        both = self.al.reference_arguments | dict(arguments)
        both = {name: value for name, value in both.items() if name not in left_out}
        al = self.al.model_copy(update={"reference_arguments": both})
        sections = self.active_learning.model_copy(update={"active_learning": al})
        return replace(self, active_learning=sections)

    def as_yaml(self, file_kind: FileKind) -> str:
        """All values of one file, defaults included; reading it gives the same settings.

        Raises
        ------
        ValueError
            If the file was not read.
        """
        checked = self._files.get(file_kind)
        if checked is None:
            raise ValueError(f"{FILE_NAMES[file_kind]} was not read")
        lines = [f"# {FILE_NAMES[file_kind]} as resolved, defaults included"]
        for section, blocks in checked.blocks.items():
            lines.append(f"{section}:")
            for block in blocks:
                values = block.model_dump(by_alias=True)
                keys = [f"  {key}: {in_one_line(value)}" for key, value in values.items()]
                if len(blocks) > 1:
                    keys[0] = f"- {keys[0].lstrip()}"
                lines += keys
        return "\n".join(lines) + "\n"
