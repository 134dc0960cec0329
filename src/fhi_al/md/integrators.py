"""Which integrator belongs to which conditions: the one list of them."""

from __future__ import annotations

from functools import cache

from fhi_al.md.andersen import ANDERSEN
from fhi_al.md.cell_scaling import berendsen_cell, cell_rescaling
from fhi_al.md.conditions import Barostat, MDConditions, Thermostat
from fhi_al.md.integrator import Integrator
from fhi_al.md.langevin import LANGEVIN
from fhi_al.md.mtk import MTK, MTK_FLEXIBLE
from fhi_al.md.nose_hoover import NOSE_HOOVER
from fhi_al.md.nve import NVE
from fhi_al.md.velocity_scaling import BERENDSEN, BUSSI

THERMOSTATS: dict[Thermostat | None, Integrator] = {
    None: NVE,
    "Langevin": LANGEVIN,
    "Andersen": ANDERSEN,
    "Bussi": BUSSI,
    "Berendsen": BERENDSEN,
    "NoseHoover": NOSE_HOOVER,
}


def integrator_of(conditions: MDConditions) -> Integrator:
    """The scheme; the same object for the same thermostat and barostat."""
    if isinstance(conditions.own_integrator, Integrator):
        return conditions.own_integrator
    return _integrator(conditions.thermostat, conditions.barostat)


@cache
def _integrator(thermostat: Thermostat | None, barostat: Barostat | None) -> Integrator:
    match barostat:
        case None:
            return THERMOSTATS[thermostat]
        case "MTK":
            return MTK
        case "MTKFlexible":
            return MTK_FLEXIBLE
        case "CellRescaling":
            return cell_rescaling(THERMOSTATS[thermostat])
        case "Berendsen":
            return berendsen_cell(THERMOSTATS[thermostat])
