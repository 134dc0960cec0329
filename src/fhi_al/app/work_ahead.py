"""What ``--check`` says of the work ahead of a run.  Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from ase.data import chemical_symbols

from fhi_al.app.checks import Inputs
from fhi_al.app.needs import EVERYTHING, Needs
from fhi_al.core.split import n_to_sample
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.settings import ActiveLearning, Settings


def work_ahead(settings: Settings, inputs: Inputs, needs: Needs = EVERYTHING) -> list[str]:
    """An estimate of the work that is left, as lines for ``--check``."""
    al = settings.al
    lines = [f"system: {', '.join(_formula(geometry) for geometry in inputs.geometries)}"]
    if needs.sampling:
        rounds = ceil(al.max_initial_epochs / al.intermediate_epochs)
        per_round = n_to_sample(0, al.n_samples * al.ensemble_size, al.test_ratio)
        calls = per_round * (al.skip_step_initial if al.initial_sampling == "aimd" else 1)
        lines.append(
            f"initial dataset: {per_round} points and {calls} reference calculations per round, "
            f"at most {rounds} rounds ({rounds * calls} calculations, {al.max_initial_epochs} "
            f"epochs for each of {al.ensemble_size} members)"
        )
    if needs.labels:
        lines += _active_learning_ahead(al)
    if needs.models and al.converge_al:
        members = 1 if al.converge_best else al.ensemble_size
        lines.append(
            f"final convergence: at most {al.max_final_epochs} epochs of {members} member(s)"
        )
    return lines


def _active_learning_ahead(al: ActiveLearning) -> Iterator[str]:
    if al.max_MD_steps is None:
        yield f"active learning: MD on {al.num_trajectories} trajectories without a limit of steps"
    else:
        n_checks = al.num_trajectories * ceil(al.max_MD_steps / al.skip_step_mlff)
        yield (
            f"active learning: at most {al.num_trajectories * al.max_MD_steps} MD steps, "
            f"{n_checks} uncertainty checks, each of which may ask for a label"
        )
    if al.max_set_size is not None:
        yield f"active learning: stops at {al.max_set_size} training points per member"
    if al.analysis:
        yield f"analysis: one more label every {al.sanity_skip} MD steps of a trajectory"


def _formula(geometry: Geometry) -> str:
    numbers = geometry.structure.numbers
    counts = [(chemical_symbols[z], int((numbers == z).sum())) for z in sorted(set(numbers))]
    kind = "crystal" if geometry.structure.pbc else "molecule"
    return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts) + f" ({kind})"
