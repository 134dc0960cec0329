"""The two YAML files of a run, read and checked before anything starts.

Owns every key: its meaning, default, bounds and what is said about a wrong value.  Imports neither
torch nor MACE.
"""

from __future__ import annotations

from fhi_al.settings.active_learning import (
    ActiveLearning,
    ActiveLearningMisc,
    ActiveLearningSettings,
)
from fhi_al.settings.architecture import Architecture
from fhi_al.settings.mace import General, MaceSettings, Misc, Training
from fhi_al.settings.md import MolecularDynamics
from fhi_al.settings.problems import Problem, SettingsError
from fhi_al.settings.reading import read_settings
from fhi_al.settings.resolved import Settings

__all__ = [
    "ActiveLearning",
    "ActiveLearningMisc",
    "ActiveLearningSettings",
    "Architecture",
    "General",
    "MaceSettings",
    "Misc",
    "MolecularDynamics",
    "Problem",
    "Settings",
    "SettingsError",
    "Training",
    "read_settings",
]
