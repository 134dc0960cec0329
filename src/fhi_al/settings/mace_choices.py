"""What this program takes or refuses of what MACE offers: blocks, models, losses, tables."""

from __future__ import annotations

from typing import Literal

_NO_DIPOLE = "is not supported: it trains on dipoles, and only energies and forces are stored"
_NO_FORCE_FIELD = "is not supported: it gives no energies and forces to run MD with"

InteractionFirst = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]
Interaction = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]
MODELS_REFUSED = {
    "PolarMACE": "is not supported yet: its charges are not read from the reference engine",
    "MACELES": "is not supported yet: it needs the les package and settings of its own",
    "BOTNet": "is no longer built by MACE; use MACE or ScaleShiftMACE",
    "ScaleShiftBOTNet": "is no longer built by MACE; use MACE or ScaleShiftMACE",
    "AtomicDipolesMACE": _NO_FORCE_FIELD,
    "AtomicDielectricMACE": _NO_FORCE_FIELD,
    "EnergyDipolesMACE": _NO_DIPOLE,
}
# Losses with a term for the stress, or the virials (minus stress times volume, by atom).
STRESS_LOSSES = frozenset({"stress", "virials", "universal", "huber"})
LOSSES_REFUSED = {
    "ef": "ignores energy_weight and forces_weight; use weighted with both set to 1",
    "dipole": _NO_DIPOLE,
    "dipole_polar": _NO_DIPOLE,
    "energy_forces_dipole": _NO_DIPOLE,
}
LossName = Literal[
    "weighted",
    "forces_only",
    "l1l2energyforces",
    "stress",
    "virials",
    "universal",
    "huber",
]
OPTIMIZERS_REFUSED = {
    "schedulefree": "is not supported yet: it needs another way of evaluating; use adam or adamw",
}
ERROR_TABLES_REFUSED = {
    "DipoleRMSE": _NO_DIPOLE,
    "DipoleMAE": _NO_DIPOLE,
    "DipolePolarRMSE": _NO_DIPOLE,
    "EnergyDipoleRMSE": _NO_DIPOLE,
}
ErrorTableName = Literal[
    "PerAtomRMSE",
    "TotalRMSE",
    "PerAtomMAE",
    "TotalMAE",
    "PerAtomRMSEstressvirials",
    "PerAtomMAEstressvirials",
]
