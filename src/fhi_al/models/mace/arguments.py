"""From our settings to the namespace that MACE's own builders take.

MACE's argument parser validates the names and values; ours only chooses which to hand over.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from typing import Any

from mace.tools.arg_parser import build_default_arg_parser
from mace.tools.arg_parser_tools import check_args

from fhi_al.models.mace import quiet_mace

_ARCHITECTURE = (
    "model",
    "r_max",
    "num_channels",
    "max_L",
    "max_ell",
    "radial_type",
    "num_radial_basis",
    "num_cutoff_basis",
    "interaction",
    "num_interactions",
    "correlation",
    "radial_MLP",
    "gate",
    "MLP_irreps",
    "interaction_first",
)
_TRAINING = (
    "weight_decay",
    "lr",
    "optimizer",
    "scheduler",
    "lr_scheduler_gamma",
    "lr_factor",
    "scheduler_patience",
    "loss",
    "energy_weight",
    "forces_weight",
    "virials_weight",
    "stress_weight",
    "huber_delta",
    "scaling",
)
# What the weights depend on: a state saved with another value cannot be loaded.
_IDENTITY = tuple(name for name in _ARCHITECTURE if name != "model")


def mace_arguments(settings: Any) -> argparse.Namespace:
    """MACE's namespace for these settings.

    Parameters
    ----------
    settings
        The settings of mace_settings.yaml, with sections ``general``, ``architecture``,
        ``training`` and ``misc``; what is None is left to MACE's default.

    Raises
    ------
    ValueError
        If MACE refuses a name or value, with its message.
    """
    options = ["--name=fhi_al", f"--default_dtype={settings.general.default_dtype}"]
    for section, names in (
        (settings.architecture, _ARCHITECTURE),
        (settings.training, _TRAINING),
    ):
        for name in names:
            options += _option(name, getattr(section, name))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            arguments: argparse.Namespace = build_default_arg_parser().parse_args(options)
        with quiet_mace():
            check: Any = check_args
            arguments, _ = check(arguments)
    except SystemExit as refused:
        said = complaint.getvalue().strip().splitlines()[-1:]
        raise ValueError(f"mace_settings.yaml: MACE refuses: {' '.join(said)}") from refused
    except AssertionError as refused:
        raise ValueError(f"mace_settings.yaml: MACE refuses: {refused}") from refused
    # On MACE's command line a switch that is on by default: it cannot be switched off there.
    arguments.amsgrad = settings.training.amsgrad
    arguments.freeze = None
    if settings.training.fine_tuning == "frozen" and settings.architecture.foundation_model:
        arguments.freeze = settings.training.freeze
    arguments.compute_energy = True
    arguments.compute_dipole = False
    return arguments


def _option(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, tuple):
        value = list(value)
    return [f"--{name}={value}"]


def architecture_identity(settings: Any, elements: tuple[int, ...]) -> dict[str, Any]:
    """What must be equal for weights to fit, as plain values that a checkpoint can hold."""
    identity: dict[str, Any] = {"elements": list(elements)}
    for name in _IDENTITY:
        value = getattr(settings.architecture, name)
        identity[name] = value if isinstance(value, int | float | None) else str(value)
    identity["default_dtype"] = str(settings.general.default_dtype)
    return identity


def fine_tuning_identity(settings: Any, digest: str) -> dict[str, Any]:
    """What must be equal besides, for weights that began as those of a foundation model."""
    training = settings.training
    identity = {"foundation_model": digest, "fine_tuning": training.fine_tuning}
    if training.fine_tuning == "lora":
        identity |= {"lora_rank": training.lora_rank, "lora_alpha": training.lora_alpha}
    return identity
