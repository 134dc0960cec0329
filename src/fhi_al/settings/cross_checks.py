"""Rules between keys: what must be given together and what contradicts itself.  Reads no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fhi_al.settings.active_learning import ActiveLearningSettings
from fhi_al.settings.architecture import Architecture
from fhi_al.settings.checked_file import CheckedFile
from fhi_al.settings.clash import Clash
from fhi_al.settings.displaced import DisplacedStructures
from fhi_al.settings.engine_names import BUILT_IN, owners
from fhi_al.settings.keys import keys_of
from fhi_al.settings.mace import MaceSettings, Training
from fhi_al.settings.md_blocks import md_problems
from fhi_al.settings.plugins import imported
from fhi_al.settings.problems import Problem
from fhi_al.settings.stopping import stop_problems
from fhi_al.settings.systems import system_problems, trajectory_counts

Selectors = Mapping[str, tuple[str, tuple[str, ...]]]

_SELECTED_BY: Selectors = {
    **{
        f"ACTIVE_LEARNING.cluster.{key}": ("cluster.provider", ("slurm",))
        for key in (
            *("nodes_per_block", "launcher", "walltime", "partition", "account", "exclusive"),
            "scheduler_options",
        )
    },
    "ACTIVE_LEARNING.foundation_model": ("initial_sampling", ("foundation",)),
    "ACTIVE_LEARNING.foundation_calculator": ("initial_sampling", ("foundation",)),
    "ACTIVE_LEARNING.foundation_arguments": ("initial_sampling", ("foundation",)),
    **{
        f"ACTIVE_LEARNING.displaced.{key}": ("initial_sampling", ("displaced",))
        for key in keys_of(DisplacedStructures)
    },
}


def selectors() -> Selectors:
    """Key -> the key that must have one of these values for it to matter."""
    of_engines = {
        f"ACTIVE_LEARNING.{key}": ("reference_engine", names) for key, names in owners().items()
    }
    return {**of_engines, **_SELECTED_BY}


def is_selected(chosen: object, wanted: tuple[str, ...]) -> bool:
    """Whether one of the wanted values is chosen, of a key that may have several."""
    return any(one in wanted for one in (chosen if isinstance(chosen, tuple) else (chosen,)))


def written(chosen: object) -> object:
    """A choice as it is written in a file."""
    return f"[{', '.join(chosen)}]" if isinstance(chosen, tuple) else chosen


def clashes(file: CheckedFile, found: Iterator[Clash]) -> list[Problem]:
    """The clashes as problems, without those about keys that were refused already."""
    problems = []
    for clash in found:
        sections = {label.partition(".")[0] for label in clash.labels}
        if not file.refused & (sections | set(clash.labels)):
            problems.append(
                file.problem(clash.labels[0], clash.message, about_value=clash.about_value)
            )
    return problems


def check_mace(mace: MaceSettings) -> Iterator[Clash]:
    """Rules within mace_settings.yaml."""
    architecture, training = mace.architecture, mace.training
    if mace.misc.device == "mps" and mace.general.default_dtype == "float64":
        yield Clash(
            ("MISC.device", "GENERAL.default_dtype"),
            "this device has no double precision. Set GENERAL.default_dtype to float32",
        )
    if isinstance(architecture, Architecture):
        yield from _mace_architecture(architecture, mace.misc.enable_cueq is True)
    if training.has_stress_loss and not mace.general.compute_stress:
        yield Clash(
            ("TRAINING.loss", "GENERAL.compute_stress"),
            "trains on stress, which labels do not have. Set GENERAL.compute_stress to true, or"
            " use loss: weighted",
        )
    if mace.misc.error_table.endswith("stressvirials") and not mace.general.compute_stress:
        yield Clash(
            ("MISC.error_table", "GENERAL.compute_stress"),
            "shows errors of the stress, which labels do not have. Set GENERAL.compute_stress to"
            " true, or use PerAtomRMSE",
        )
    weight = training.forces_weight
    if training.loss != "forces_only":
        weight += training.energy_weight
    if weight == 0:
        yield Clash(
            ("TRAINING.forces_weight", "TRAINING.energy_weight", "TRAINING.loss"),
            "leaves nothing to train on. Try 100",
        )
    if training.swa:
        yield from _second_stage(training)


def _second_stage(training: Training) -> Iterator[Clash]:
    if training.loss == "forces_only":
        yield Clash(
            ("TRAINING.swa", "TRAINING.loss"),
            "the second stage is there to train energies, which loss: forces_only leaves out. Use"
            " loss: weighted, or remove swa",
        )
    elif training.swa_forces_weight + training.swa_energy_weight == 0:
        yield Clash(
            ("TRAINING.swa_forces_weight", "TRAINING.swa_energy_weight"),
            "leaves the second stage nothing to train on. Try 100",
        )


def _mace_architecture(architecture: Architecture, enable_cueq: bool) -> Iterator[Clash]:
    reach = architecture.max_ell * architecture.correlation
    if architecture.max_L > reach:
        yield Clash(
            ("ARCHITECTURE.max_L", "ARCHITECTURE.max_ell", "ARCHITECTURE.correlation"),
            f"must be at most max_ell x correlation = {reach}: nothing couples to more",
        )
    if enable_cueq and architecture.correlation not in (2, 3):
        yield Clash(
            ("MISC.enable_cueq", "ARCHITECTURE.correlation"),
            "MACE converts only models of correlation 2 or 3 to cuEquivariance",
        )


def check_active_learning(
    file: CheckedFile, settings: ActiveLearningSettings, *, training: bool
) -> Iterator[Clash]:
    """Rules within active_learning_settings.yaml.

    Parameters
    ----------
    training : bool
        False if only the reference engine is used (atomic energies): then no stop rule is needed.
    """
    al = settings.active_learning
    if al.threshold_window < al.threshold_warmup:
        yield Clash(
            ("ACTIVE_LEARNING.threshold_window", "ACTIVE_LEARNING.threshold_warmup"),
            f"must be at least threshold_warmup = {al.threshold_warmup}",
        )
    if al.max_MD_steps is not None and al.max_MD_steps < al.skip_step_mlff:
        yield Clash(
            ("ACTIVE_LEARNING.max_MD_steps", "ACTIVE_LEARNING.skip_step_mlff"),
            "a trajectory would be done before its first uncertainty check after"
            f" skip_step_mlff = {al.skip_step_mlff} steps",
        )
    yield from _calibration(settings)
    yield from _engine(settings)
    yield from _cluster(settings)
    yield from _without_selector(file)
    if training:
        yield from stop_problems(settings)
        yield from _foundation(settings)
        yield from _displaced(settings)
        yield from md_problems(settings.md)
        yield from system_problems(
            settings.systems,
            settings.md,
            al.num_trajectories,
            al.n_samples,
            own_sets=al.initial_sets == "own",
        )


def _calibration(settings: ActiveLearningSettings) -> Iterator[Clash]:
    al, label = settings.active_learning, "ACTIVE_LEARNING.calibrate"
    if not al.calibrate:
        return
    if not al.analysis:
        yield Clash(
            (label, "ACTIVE_LEARNING.analysis"),
            "the true errors it needs come from sanity checks. Set analysis: true",
        )
    if al.calibrated_threshold is None and al.desired_acc == 0:
        yield Clash(
            (label, "ACTIVE_LEARNING.calibrated_threshold", "ACTIVE_LEARNING.desired_acc"),
            "needs the true error above which a structure gets a label. Give calibrated_threshold"
            " or desired_acc, in eV/A",
        )
    if al.calibration_window < al.calibration_warmup:
        yield Clash(
            ("ACTIVE_LEARNING.calibration_window", "ACTIVE_LEARNING.calibration_warmup"),
            f"must be at least calibration_warmup = {al.calibration_warmup}",
        )
    if al.max_MD_steps is not None:
        # At most one for each block of skip_step_mlff steps.
        each = al.max_MD_steps // max(al.sanity_skip, al.skip_step_mlff)
        n_trajectories = sum(trajectory_counts(settings.systems, al.num_trajectories))
        if n_trajectories * each < al.calibration_warmup:
            yield Clash(
                (
                    label,
                    "ACTIVE_LEARNING.sanity_skip",
                    "ACTIVE_LEARNING.max_MD_steps",
                    "ACTIVE_LEARNING.num_trajectories",
                    "ACTIVE_LEARNING.calibration_warmup",
                ),
                f"needs calibration_warmup = {al.calibration_warmup} sanity checks, but"
                f" {n_trajectories} trajectories of max_MD_steps = {al.max_MD_steps} have"
                f" {n_trajectories * each} in all. Make sanity_skip smaller (it is"
                f" {al.sanity_skip})",
            )


def _engine(settings: ActiveLearningSettings) -> Iterator[Clash]:
    al = settings.active_learning
    # What packages have to say of their own keys is known when their code is loaded.
    if al.reference_engine in BUILT_IN:
        yield from imported(BUILT_IN[al.reference_engine]).rules(al)


def _cluster(settings: ActiveLearningSettings) -> Iterator[Clash]:
    al, label = settings.active_learning, "ACTIVE_LEARNING.cluster"
    if al.cluster is None:
        return
    if not al.parallel:
        yield Clash(
            (label, "ACTIVE_LEARNING.parallel"),
            "labels on a cluster are computed while other things go on. Set parallel: true",
            about_value=False,
        )
    if al.cluster.provider == "slurm" and al.cluster.job_timeout >= al.cluster.walltime_s:
        yield Clash(
            (f"{label}.job_timeout", f"{label}.walltime"),
            f"must be below walltime = {al.cluster.walltime} = {al.cluster.walltime_s} s, in which"
            " a block has to end at least one label",
        )


def _without_selector(file: CheckedFile) -> Iterator[Clash]:
    # Whoever names another engine's key but not the engine has forgotten the engine.
    for label, (selector, wanted) in selectors().items():
        full = f"ACTIVE_LEARNING.{selector}"
        if file.value(full) is None:
            continue  # a key below one that is not there
        if full in file.given or file.given.get(label) is None:
            continue
        if is_selected(file.value(full), wanted):
            continue
        yield Clash(
            (label, full),
            f"has an effect only with {selector}: {' or '.join(wanted)}. Add that line, or remove"
            " this one",
        )


def _displaced(settings: ActiveLearningSettings) -> Iterator[Clash]:
    al = settings.active_learning
    if al.sources == ("displaced",) and al.displaced.rattled == 0:
        yield Clash(
            ("ACTIVE_LEARNING.displaced.rattled", "ACTIVE_LEARNING.initial_sampling"),
            "must be at least 1 where nothing but displaced structures makes the initial dataset:"
            " further ones are drawn when the list is used up",
        )
    if al.displaced.dimers > 0 and al.displaced.dimer_contact < al.min_distance:
        yield Clash(
            ("ACTIVE_LEARNING.displaced.dimer_contact", "ACTIVE_LEARNING.min_distance"),
            f"must be at least min_distance = {al.min_distance:g}, below which atoms overlap",
        )


def _foundation(settings: ActiveLearningSettings) -> Iterator[Clash]:
    al = settings.active_learning
    if "none" in al.sources and len(al.sources) > 1:
        yield Clash(
            ("ACTIVE_LEARNING.initial_sampling",),
            "none leaves the initial dataset out and mixes with no other source. Remove one",
        )
    if "foundation" not in al.sources:
        return
    labels = (
        "ACTIVE_LEARNING.initial_sampling",
        "ACTIVE_LEARNING.foundation_model",
        "ACTIVE_LEARNING.foundation_calculator",
    )
    if (al.foundation_model is None) == (al.foundation_calculator is None):
        yield Clash(
            labels,
            "needs exactly one of foundation_model (a MACE model file) and foundation_calculator"
            " (an import path)",
        )
    elif al.foundation_arguments and al.foundation_calculator is None:
        yield Clash(
            ("ACTIVE_LEARNING.foundation_arguments", *labels),
            "are the arguments of foundation_calculator, which is not given",
        )
