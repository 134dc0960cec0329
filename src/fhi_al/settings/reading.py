"""The resolved settings of a run, and how they are read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fhi_al.settings.active_learning import (
    ActiveLearningSettings,
)
from fhi_al.settings.checked_file import CheckedFile, check_file
from fhi_al.settings.cross_checks import check_active_learning, check_mace, clashes
from fhi_al.settings.effects import notes_on
from fhi_al.settings.fine_tuning_defaults import (
    fine_tuning_problems,
    is_fine_tuned,
    with_defaults,
)
from fhi_al.settings.keys import FILE_NAMES, key_at, mace_layout
from fhi_al.settings.learning_rate import (
    notes_on_the_learning_rate,
    notes_on_the_second_stage,
)
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.model_backends import MACE, ModelDeclaration, declaration
from fhi_al.settings.overrides import OPTION, placed, read_overrides, with_overrides
from fhi_al.settings.problems import Problem, SettingsError, shown
from fhi_al.settings.resolved import Settings
from fhi_al.settings.stress import notes_on_the_stress
from fhi_al.settings.yaml_reading import Document, read_document


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
        contents = checked.sections()
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
