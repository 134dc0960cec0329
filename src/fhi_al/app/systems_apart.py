"""Systems that cannot share a process: FHI-aims as a library knows one geometry in each.

With reference groups each group computes one system; with a cluster every label has a process.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhi_al.engines import registry
from fhi_al.engines.inputs import Inputs
from fhi_al.parallel.layout import apart_problem
from fhi_al.settings import Settings

AL = "ACTIVE_LEARNING"


def systems_apart(settings: Settings, inputs: Inputs) -> int:
    """How many systems each need processes of their own; 1 if they share them."""
    return len(inputs.each) if registry.one_system_per_process(settings) else 1


def system_names(inputs: Inputs) -> list[str]:
    """What tables call the systems: by their names, or by their files."""
    return [one.name or one.geometry.path.name for one in inputs.each]


def apart_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    """What keeps systems from processes of their own, however many ranks a launch has."""
    n_systems = systems_apart(settings, inputs)
    if n_systems == 1:
        return
    al = settings.al
    key = apart_problem(al.parallel, al.reference_groups, n_systems)
    if key is None:
        return
    yield str(
        settings.problem(
            "active_learning",
            f"{AL}.{key}",
            f"the run has {n_systems} systems ({', '.join(system_names(inputs))}), and a process of"
            f" FHI-aims as a library can compute one of them only: expected a reference group for"
            f" each. Set parallel: true, with reference_groups: {n_systems} (which is the default"
            f" then) and at least {n_systems + 1} ranks (mpirun -n {n_systems + 1}); or set"
            " cluster, with which each label is a job with inputs of its own",
        )
    )
