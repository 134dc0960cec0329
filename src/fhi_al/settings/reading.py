"""The resolved settings of a run, and how they are read from its folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from fhi_al.settings.active_learning import (
    ActiveLearning,
    ActiveLearningMisc,
    ActiveLearningSettings,
)
from fhi_al.settings.changes import is_kept
from fhi_al.settings.checked_file import CheckedFile, check_file
from fhi_al.settings.cross_checks import check_active_learning, check_mace, clashes
from fhi_al.settings.effects import notes_on
from fhi_al.settings.fine_tuning_defaults import (
    fine_tuning_problems,
    is_fine_tuned,
    with_defaults,
)
from fhi_al.settings.keys import FILE_NAMES, LISTS, key_at, mace_layout
from fhi_al.settings.learning_rate import (
    notes_on_the_learning_rate,
    notes_on_the_second_stage,
)
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.md import MolecularDynamics
from fhi_al.settings.model_backends import MACE, ModelDeclaration, declaration
from fhi_al.settings.overrides import OPTION, placed, read_overrides, with_overrides
from fhi_al.settings.problems import Problem, SettingsError, shown
from fhi_al.settings.stress import notes_on_the_stress
from fhi_al.settings.systems import System
from fhi_al.settings.value_types import Section
from fhi_al.settings.yaml_reading import NUMBER, Document, read_document

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
            contents = _contents(files["mace"])
            mace = MaceSettings(**contents, backend=mace.backend, backend_class=mace.backend_class)
        active_learning = ActiveLearningSettings(**_contents(files["active_learning"]))
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
                keys = [f"  {key}: {_written(value)}" for key, value in values.items()]
                if len(blocks) > 1:
                    keys[0] = f"- {keys[0].lstrip()}"
                lines += keys
        return "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """Quotes texts that our reader, but not PyYAML, would take for numbers (``1e5``)."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return value


def _written(value: Any) -> str:
    text = yaml.dump(
        _plain(value),
        Dumper=_Dumper,
        default_flow_style=True,
        width=float("inf"),
        sort_keys=False,
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def read_settings(folder: Path, *, needs_mace: bool = True, given: Sequence[str] = ()) -> Settings:
    """Read and check the settings files of a run.

    Parameters
    ----------
    folder : Path
        Holds ``mace_settings.yaml`` and ``active_learning_settings.yaml``.
    needs_mace : bool
        False for a command that trains nothing: ``mace_settings.yaml`` is then not looked at and
        no stop rule is asked for.
    given : sequence of str
        Keys of the command line, ``SECTION.key=value``, in place of those of the files.

    Raises
    ------
    SettingsError
        With all problems of both files.
    """
    kinds = ["mace", "active_learning"] if needs_mace else ["active_learning"]
    overrides = read_overrides(given)
    documents = {kind: read_document(folder / FILE_NAMES[kind]) for kind in kinds}
    # Of a file that cannot be read that is said.
    there = all(document.data for document, _ in documents.values())
    overridden: Mapping[str, tuple[str, ...]] = {}
    if there:
        readable = {kind: document for kind, (document, _) in documents.items()}
        overridden = with_overrides(overrides, readable)
    return checked_settings(documents, folder, overridden=overridden)


def checked_settings(
    documents: Mapping[str, tuple[Document, list[Problem]]],
    folder: Path,
    models: ModelDeclaration | None = None,
    overridden: Mapping[str, tuple[str, ...]] | None = None,
) -> Settings:
    """Check documents against the models and the rules between their keys.

    Parameters
    ----------
    documents : mapping
        ``mace``, if models are trained, and ``active_learning``: each with the problems of
        reading it.
    folder : Path
        The run's folder, which relative paths count from.
    models : ModelDeclaration, optional
        The kind of the models; by default the one that ``model_backend`` names.
    overridden : mapping, optional
        Labels of the keys that the command line gives, by the kind of file.

    Raises
    ------
    SettingsError
        With all problems of all documents.
    """
    files: dict[str, CheckedFile] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    mace = None
    active_learning = ActiveLearningSettings()
    by_option = overridden or {}
    files["active_learning"] = check_file(
        "active_learning",
        *documents["active_learning"],
        overridden=by_option.get("active_learning", ()),
    )
    models = models or _models(files["active_learning"])
    if "mace" in documents:
        layout = mace_layout(models.architecture)
        mace_file = check_file(
            "mace", *documents["mace"], layout, overridden=by_option.get("mace", ())
        )
        files = {"mace": mace_file, **files}
    if is_fine_tuned(files):
        files = {kind: with_defaults(checked) for kind, checked in files.items()}
    for kind, checked in files.items():
        document = documents[kind][0]
        found = list(checked.problems)
        contents = _contents(checked)
        if kind == "mace":
            found += _not_of(models, checked)
            mace = MaceSettings(**contents, backend=models.name, backend_class=models.backend)
            rules = check_mace(mace)
            lines: Iterator[str] = notes_on(checked, mace)
        else:
            active_learning = ActiveLearningSettings(**contents)
            rules = check_active_learning(checked, active_learning, training="mace" in documents)
            lines = notes_on(checked, active_learning)
        # A file of which nothing could be read lacks everything: one problem says it.
        if document.data:
            found += clashes(checked, rules)
        found = [placed(problem, checked.overridden) for problem in found]
        problems += sorted(found, key=lambda problem: problem.line or 0)
        if not found:
            notes += lines
    problems += fine_tuning_problems(files)
    if problems:
        raise SettingsError(problems)
    if mace is not None:
        notes += notes_on_the_learning_rate(active_learning.active_learning, mace.training)
        notes += notes_on_the_second_stage(active_learning.active_learning, mace.training)
        notes += notes_on_the_stress(active_learning.active_learning, mace)
    notes += [
        f"{label} = {shown(checked.value(label))}: by {OPTION}."
        for checked in files.values()
        for label in checked.overridden
    ]
    return Settings(mace, active_learning, folder, tuple(notes), files)


def _models(active_learning: CheckedFile) -> ModelDeclaration:
    """The kind of models that the settings name; MACE, and a problem, if there is no such kind."""
    label = "ACTIVE_LEARNING.model_backend"
    try:
        return declaration(str(active_learning.value(label)))
    except ValueError as error:
        if label not in active_learning.refused:
            active_learning.problems.append(active_learning.problem(label, str(error)))
        return MACE


def _not_of(models: ModelDeclaration, mace: CheckedFile) -> Iterator[Problem]:
    """Keys that these models do not have, with other values than their defaults."""
    for label, reason in models.without.items():
        default = key_at("mace", label, mace.layout).get_default(call_default_factory=True)
        if label in mace.given and mace.value(label) != default:
            yield mace.problem(label, f"{reason}. Remove it, or use model_backend: mace")


def _contents(checked: CheckedFile) -> dict[str, Any]:
    return {
        section: blocks if section in LISTS else blocks[0]
        for section, blocks in checked.blocks.items()
    }
