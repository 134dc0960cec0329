"""What may change in the settings between two launches of a run, and what changed.

A key that is not listed here decides what was already done (weights, sets, random streams): with
another value the run would be neither the old one nor a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Limits, targets and decisions that only the steps to come depend on; folders; what is logged.
MAY_CHANGE: Mapping[str, frozenset[str]] = {
    # Labels that were computed without a stress have weight zero where one would count.
    "GENERAL": frozenset(
        {"compute_stress", "log_dir", "checkpoints_dir", "results_dir", "model_dir"}
    ),
    "ARCHITECTURE": frozenset(),
    "TRAINING": frozenset(
        {
            # The way out for members whose training diverges.
            *("lr", "clip_grad"),
            *("lr_factor", "lr_scheduler_gamma", "scheduler_patience"),
            # All of them say what a convergence does that has not come to its second stage.
            *("swa", "start_swa", "swa_lr", "swa_energy_weight", "swa_forces_weight"),
            *("swa_stress_weight", "swa_virials_weight"),
            *("valid_fraction", "max_num_epochs", "patience", "eval_interval"),
        }
    ),
    "MISC": frozenset(
        {
            "device",
            "keep_checkpoints",
            "restart_latest",
            "error_table",
            "log_level",
            "num_threads",
            "compile_final",
            "cuda_graphs",
            "enable_cueq",
            "create_restart",
            "snapshot_interval",
            "report",
            "logger",
            "walltime_limit",
        }
    ),
    "ACTIVE_LEARNING": frozenset(
        {
            "desired_acc",
            "stop_on",
            "n_samples",
            "lambda",
            "converge_initial",
            "converge_al",
            "converge_best",
            "converge_from",
            "max_initial_epochs",
            "max_epochs_worker",
            "max_final_epochs",
            "intermediate_epochs",
            "patience",
            "margin",
            "max_MD_steps",
            "max_set_size",
            "label_budget",
            "initial_share",
            "final_sets",
            "final_test",
            "intermediate_gain",
            "valid_skip",
            "sanity_skip",
            "sanity_action",
            "c_x",
            "stress_threshold",
            "candidate_order",
            "duplicate_distance",
            "threshold_type",
            "threshold_quantile",
            "max_threshold",
            "max_excess_energy",
            "calibrate",
            "calibrated_threshold",
            "calibration_warmup",
            "dataset_dir",
            "species_dir",
            "aims_lib_path",
            "analysis",
            "parallel",
            "reference_groups",
            "training_ranks",
            "train_while_waiting",
            "rescore_queue",
            "cluster",
            "reuse_calculator",
            "max_label_failures",
            "max_force",
            "max_energy_per_atom",
            "max_stress",
            "max_rollbacks",
            "max_training_failures",
            "min_distance",
            "max_distance",
        }
    ),
    "MD": frozenset(),
    # What the files say is compared itself: structures, and the engine of each system.
    "SYSTEMS": frozenset({"name", "geometry", "control", "arguments", "trajectories"}),
}

Values = Mapping[str, Any]


def changes(before: Values, now: Values) -> tuple[list[str], list[str]]:
    """What changed since a snapshot: allowed changes, and those that are refused.

    Parameters
    ----------
    before, now : mapping
        As from ``Settings.values``.  A key that one side lacks is new or gone with a version of the
        program, not a change of the user's.

    Returns
    -------
    allowed, refused : list of str
        ``SECTION.key: old -> new``.
    """
    allowed: list[str] = []
    refused: list[str] = []
    then, blocks = _n_md_blocks(before), _n_md_blocks(now)
    if then and blocks and then != blocks:
        refused.append(f"MD: {then} -> {blocks} blocks")
    before, now = _with_numbers(before), _with_numbers(now)
    refused += _systems_gone(before, now)
    for label in before:
        if label not in now or before[label] == now[label]:
            continue
        message = f"{label}: {before[label]} -> {now[label]}"
        (allowed if may_change(label) else refused).append(message)
    return allowed, refused


def _n_md_blocks(values: Values) -> int:
    """Blocks in the section MD, each of which has keys of its own."""
    return len({label.partition(".")[0] for label in values if label.startswith("MD")})


SYSTEMS = "SYSTEMS"


def _with_numbers(values: Values) -> Values:
    """Values with ``SYSTEMS[0].key`` for the keys of a single system, as those of several have."""
    first = f"{SYSTEMS}."
    return {
        f"{SYSTEMS}[0].{label.removeprefix(first)}" if label.startswith(first) else label: value
        for label, value in values.items()
    }


def _systems_gone(before: Values, now: Values) -> list[str]:
    """Systems that are no longer where they were: labels and states know them by their place."""
    found = []
    for index, name in enumerate(_names_of_systems(before)):
        names = _names_of_systems(now)
        if index >= len(names):
            found.append(f"{SYSTEMS}: system {name or index} is gone (others may be added)")
        elif name not in (None, names[index]):
            found.append(
                f"{SYSTEMS}[{index}].name: {name} -> {names[index]} (systems keep their places,"
                " others are added behind them)"
            )
    return found


def _names_of_systems(values: Values) -> list[str | None]:
    names: list[str | None] = []
    while (label := f"{SYSTEMS}[{len(names)}].name") in values:
        names.append(values[label])
    return names


def is_kept(label: str, before: Values, now: Values) -> bool:
    """Whether a run goes on with its earlier value of a key, if no file gives another one."""
    return label in before and before[label] != now[label] and not may_change(label)


def may_change(label: str) -> bool:
    """Whether a run goes on with another value of a key, ``SECTION.key``."""
    section, _, key = label.partition(".")
    return key in MAY_CHANGE.get(section.partition("[")[0], frozenset())
