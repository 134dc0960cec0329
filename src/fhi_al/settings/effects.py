"""Notes on accepted settings: which key wins, which has no effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhi_al.settings.active_learning import ActiveLearningSettings
from fhi_al.settings.architecture import Architecture
from fhi_al.settings.checked_file import CheckedFile
from fhi_al.settings.cross_checks import is_selected, selectors, written
from fhi_al.settings.fine_tuning import FineTuning
from fhi_al.settings.keys import key_at, keys_of
from fhi_al.settings.mace import MaceSettings, Training
from fhi_al.settings.md_blocks import md_blocks
from fhi_al.settings.problems import nearest, shown
from fhi_al.settings.retired import SUPERSEDED
from fhi_al.settings.value_types import Choice

# Of what a run labels itself, and of all others.
CONFIG_TYPES = ("initial", "active_learning", "replay", "Default")


def notes_on(file: CheckedFile, settings: MaceSettings | ActiveLearningSettings) -> Iterator[str]:
    """One sentence each, beginning with the key; nothing about keys that were left out."""
    yield from file.notes
    yield from _respelt(file)
    if isinstance(settings, MaceSettings):
        for label, winner in SUPERSEDED.items():
            if label in file.given:
                yield f"{_entry(file, label)}: superseded: what counts is {winner}."
        for name in settings.training.config_type_weights:
            if name not in CONFIG_TYPES:
                guess = nearest(name, CONFIG_TYPES)
                yield (
                    f"TRAINING.config_type_weights: {name}: counts for imported data with that"
                    f" config_type only.{f' Did you mean {guess}?' if guess else ''}"
                )
        idle = _idle_in_mace(settings)
    else:
        idle = _idle_in_active_learning(file, settings)
    for label, reason in idle:
        if label in file.given and file.value(label) != _default(file, label):
            yield f"{_entry(file, label)}: has no effect {reason}."
    if isinstance(settings, ActiveLearningSettings):
        yield from _schedules_cut_off(settings)
    if isinstance(settings, ActiveLearningSettings) and settings.active_learning.desired_acc == 0:
        yield (
            "ACTIVE_LEARNING.desired_acc = 0: no accuracy ends a phase; the initial dataset ends"
            " after max_initial_epochs."
        )


def _schedules_cut_off(settings: ActiveLearningSettings) -> Iterator[str]:
    """Schedules that go on after the last MD step of a trajectory."""
    most = settings.active_learning.max_MD_steps
    if most is None:
        return
    for block in md_blocks(settings.md):
        is_npt = block.settings.stat_ensemble == "NPT"
        for key in ("temperature", *(["pressure"] if is_npt else [])):
            value = getattr(block.settings, key)
            if isinstance(value, dict):
                last = value["over"] if "over" in value else max(value)
                if last > most:
                    yield (
                        f"{block.label}.{key} = {shown(value)}: comes to its end at MD step"
                        f" {last}, a trajectory of active learning ends at max_MD_steps = {most}."
                    )


def _entry(file: CheckedFile, label: str) -> str:
    return f"{label} = {shown(file.given[label])}"


def _default(file: CheckedFile, label: str) -> Any:
    return key_at(file.kind, label, file.layout).get_default(call_default_factory=True)


def _respelt(file: CheckedFile) -> Iterator[str]:
    for label, raw in file.given.items():
        info = key_at(file.kind, label, file.layout)
        value = file.value(label)
        is_choice = label == "MISC.device" or any(
            isinstance(mark, Choice) for mark in info.metadata
        )
        if is_choice and isinstance(raw, str) and raw != value:
            yield f"{label} = {shown(raw)}: read as {value}."


def _idle_in_mace(mace: MaceSettings) -> Iterator[tuple[str, str]]:
    training = mace.training
    if training.scheduler != "ExponentialLR":
        yield "TRAINING.lr_scheduler_gamma", f"with scheduler {training.scheduler}"
    if training.scheduler != "ReduceLROnPlateau":
        yield "TRAINING.lr_factor", f"with scheduler {training.scheduler}"
        yield "TRAINING.scheduler_patience", f"with scheduler {training.scheduler}"
    if not training.ema:
        yield "TRAINING.ema_decay", "without ema"
    if training.loss == "forces_only":
        yield "TRAINING.energy_weight", "with loss forces_only"
    if not training.swa:
        for key in ("start_swa", "swa_lr", "swa_energy_weight", "swa_forces_weight"):
            yield f"TRAINING.{key}", "without swa"
    yield from _idle_weights(training)
    yield from _idle_in_fine_tuning(mace)
    if not mace.misc.device.startswith("cuda"):
        yield "MISC.cuda_graphs", f"with device {mace.misc.device}"
    if training.loss in ("huber", "universal"):
        yield "TRAINING.config_type_weights", f"with loss {training.loss}, but for weights of 0"
    if isinstance(mace.architecture, Architecture):
        yield from _idle_in_architecture(mace.architecture)


def _idle_weights(training: Training) -> Iterator[tuple[str, str]]:
    """Of the stress and the virials, and what only Huber's losses look at."""
    losses = {"stress": ("stress", "huber", "universal"), "virials": ("virials",)}
    for name, having_it in losses.items():
        if training.loss not in having_it:
            yield f"TRAINING.{name}_weight", f"with loss {training.loss}"
            yield f"TRAINING.swa_{name}_weight", f"with loss {training.loss}"
        elif not training.swa:
            yield f"TRAINING.swa_{name}_weight", "without swa"
    if training.loss not in ("huber", "universal"):
        yield "TRAINING.huber_delta", f"with loss {training.loss}"


def _idle_in_fine_tuning(mace: MaceSettings) -> Iterator[tuple[str, str]]:
    """What only some models that start from a foundation model look at."""
    architecture, training = mace.architecture, mace.training
    if not isinstance(architecture, Architecture) or architecture.foundation_model is None:
        keys = [f"TRAINING.{key}" for key in keys_of(FineTuning)]
        keys += [f"ARCHITECTURE.{key}" for key in ("foundation_head", "foundation_elements")]
        for label in (*keys, "ARCHITECTURE.accept_licence"):
            yield label, "without ARCHITECTURE.foundation_model"
        return
    of_a_way = {
        "freeze": "frozen",
        "lora_rank": "lora",
        "lora_alpha": "lora",
        "replay_file": "replay",
        "replay_structures": "replay",
        "replay_batch": "replay",
    }
    for key, way in of_a_way.items():
        if training.fine_tuning != way:
            yield f"TRAINING.{key}", f"with fine_tuning: {training.fine_tuning}"
    if training.replay_file is not None:
        yield "TRAINING.replay_structures", "with a replay_file"
    if training.readouts != "perturbed":
        yield "TRAINING.readout_noise", f"with readouts: {training.readouts}"


def _idle_in_architecture(architecture: Architecture) -> Iterator[tuple[str, str]]:
    if architecture.model == "MACE" and architecture.interaction_first not in (
        "RealAgnosticInteractionBlock",
        "RealAgnosticDensityInteractionBlock",
    ):
        yield (
            "ARCHITECTURE.interaction_first",
            "with model MACE, which then starts with a RealAgnosticInteractionBlock",
        )
    if architecture.num_interactions == 1:
        yield "ARCHITECTURE.interaction", "with a single layer"


def _idle_in_active_learning(
    file: CheckedFile, settings: ActiveLearningSettings
) -> Iterator[tuple[str, str]]:
    al = settings.active_learning
    for label, (selector, wanted) in selectors().items():
        chosen = file.value(f"ACTIVE_LEARNING.{selector}")
        if not is_selected(chosen, wanted):
            yield label, f"with {selector}: {written(chosen)}"
    if al.cluster is not None:
        yield "ACTIVE_LEARNING.scf_warm_start", "with cluster, where every label starts afresh"
    if "mace-mp0" not in al.sources:
        yield (
            "ACTIVE_LEARNING.initial_foundational_size",
            f"with initial_sampling: {written(al.initial_sampling)}",
        )
    if al.sources == ("displaced",):
        yield "ACTIVE_LEARNING.skip_step_initial", "with initial_sampling: displaced"
    if al.displaced.strained == 0:
        yield "ACTIVE_LEARNING.displaced.strain", "with strained: 0"
    if al.displaced.volumes == 0:
        yield "ACTIVE_LEARNING.displaced.volume_range", "with volumes: 0"
    if al.displaced.dimers == 0:
        yield "ACTIVE_LEARNING.displaced.dimer_contact", "with dimers: 0"
    if all(system.trajectories is not None for system in settings.systems):
        yield "ACTIVE_LEARNING.num_trajectories", "where each of SYSTEMS has trajectories"
    if len(settings.systems) == 1:
        yield "ACTIVE_LEARNING.stop_on", "with one system"
        yield "SYSTEMS.share", "with one system"
    if not al.parallel:
        for key in ("reference_groups", "train_while_waiting", "rescore_queue"):
            yield f"ACTIVE_LEARNING.{key}", "without parallel"
    if al.parallel and al.initial_data is None:
        yield "ACTIVE_LEARNING.intermediate_gain", "with parallel"
    if not al.converge_al:
        yield "ACTIVE_LEARNING.final_sets", "without converge_al"
    if al.label_budget is None:
        yield "ACTIVE_LEARNING.initial_share", "without label_budget"
    if not al.analysis:
        yield "ACTIVE_LEARNING.sanity_skip", "without analysis"
        yield "ACTIVE_LEARNING.sanity_action", "without analysis"
        yield "ACTIVE_LEARNING.calibration_window", "without analysis"
    if al.threshold_type != "quantile":
        yield (
            "ACTIVE_LEARNING.threshold_quantile",
            f"with threshold_type: {al.threshold_type}",
        )
    if not al.calibrate:
        yield "ACTIVE_LEARNING.calibrated_threshold", "without calibrate"
        yield "ACTIVE_LEARNING.calibration_warmup", "without calibrate"
    if not al.converge_al:
        yield "ACTIVE_LEARNING.converge_best", "without converge_al"
        yield "ACTIVE_LEARNING.converge_from", "without converge_al"
    if not (al.converge_al or al.converge_initial):
        yield "ACTIVE_LEARNING.patience", "without converge_initial and converge_al"
        yield "ACTIVE_LEARNING.max_final_epochs", "without converge_initial and converge_al"
    for index, md in enumerate(settings.md):
        section = "MD" if len(settings.md) == 1 else f"MD[{index}]"
        is_npt = md.stat_ensemble == "NPT"
        thermostat = "NVE" if md.stat_ensemble == "NVE" else md.thermostat
        if is_npt and md.barostat.startswith("MTK"):
            thermostat = "NoseHoover"
            if md.thermostat != thermostat:
                yield f"{section}.thermostat", f"with {md.barostat}, which has chains of its own"
        if thermostat == "NVE":
            yield f"{section}.thermostat", "with NVE"
        if not is_npt:
            for key in ("barostat", "pressure", "barostat_time", "compressibility"):
                yield f"{section}.{key}", f"with {md.stat_ensemble}"
        elif md.barostat.startswith("MTK"):
            yield f"{section}.compressibility", f"with {md.barostat}"
        if thermostat != "Langevin":
            yield f"{section}.friction", f"with {thermostat}"
        if thermostat not in ("Berendsen", "Bussi", "NoseHoover"):
            yield f"{section}.thermostat_time", f"with {thermostat}"
        if thermostat != "Andersen":
            yield f"{section}.andersen_prob", f"with {thermostat}"
    if not settings.misc.create_restart:
        yield "MISC.snapshot_interval", "without create_restart"
