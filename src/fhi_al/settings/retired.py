"""Keys of older files: names that changed, keys that nothing depends on any more."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from fhi_al.settings.problems import shown
from fhi_al.settings.value_types import read_boolean

# Names of the same thing elsewhere, too far from ours for a spelling check to find.
OTHER_NAMES = {
    "analysis_skip": "sanity_skip",
    "name": "name_exp",
    "e0s": "atomic_energies",
    "dtype": "default_dtype",
    "learning_rate": "lr",
    "cutoff": "r_max",
    "temperature_k": "temperature",
    "dt": "timestep",
    "taut": "thermostat_time",
    "tdamp": "thermostat_time",
    "ensemble": "stat_ensemble",
}

# Accepted under their old name: SECTION.old key, and the key's name now.
RENAMED = {"ACTIVE_LEARNING.max_setbacks": "max_rollbacks"}

# Accepted in mace_settings.yaml: the value that changes nothing (None: any), and why.
KEYS: dict[str, tuple[bool | None, str]] = {
    "save_cpu": (None, "the saved models load on any device"),
    "compute_forces": (True, "forces are always computed"),
}

# Keys that the active-learning settings overrule, and what wins.
SUPERSEDED = {
    "TRAINING.valid_fraction": "ACTIVE_LEARNING.valid_ratio",
    "TRAINING.max_num_epochs": (
        "ACTIVE_LEARNING.max_initial_epochs, max_epochs_worker and max_final_epochs"
    ),
    "TRAINING.eval_interval": "ACTIVE_LEARNING.valid_skip",
    "TRAINING.patience": "ACTIVE_LEARNING.patience",
    "MISC.restart_latest": "the state in restart/, from which a run always continues",
}


def judge(label: str, key: str, value: object) -> tuple[str, str]:
    """A note, or an error, about a key in :data:`KEYS`; the other one is empty."""
    harmless, reason = KEYS[key]
    start = f"{label} = {shown(value)}: "
    try:
        given = read_boolean(value)
    except PydanticCustomError as error:
        return "", f"{start}{error}. The key has no effect ({reason}): remove it."
    if harmless is not None and given != harmless:
        return "", f"{start}is not supported: {reason}. Remove it."
    return f"{start}has no effect: {reason}.", ""
