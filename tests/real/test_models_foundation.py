"""Foundation models: CHGNet's real weights, a MACE file, and what is said when there are none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from models_parts import settings

from fhi_al.app.foundation import foundation_calculator, foundation_problem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.menu import menu
from fhi_al.settings import ActiveLearning

pytestmark = pytest.mark.real


def sampling(kind: str = "foundation", **changes: Any) -> ActiveLearning:
    """The settings that name a foundation model."""
    return ActiveLearning.model_validate({"initial_sampling": kind, **changes})


def test_chgnet_gives_forces_offline() -> None:
    al = sampling(
        foundation_calculator="chgnet.model.dynamics.CHGNetCalculator",
        foundation_arguments={"use_device": "cpu"},
    )
    assert foundation_problem(al, *al.sources) is None
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = foundation_calculator(al, *al.sources)
    forces = atoms.get_forces()
    assert 0.1 < np.abs(forces).max() < 10
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-4)  # eV/A, float32


def test_mace_file_is_a_foundation_model(tmp_path: Path) -> None:
    made = Ensemble(settings(), (14,), (1,))
    path = made.export(tmp_path, "silicon")[0]
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    al = sampling(foundation_model=str(path))
    assert foundation_problem(al, *al.sources) is None
    atoms.calc = foundation_calculator(al, *al.sources)
    expected = made.energies_and_forces(atoms)[1][0]
    np.testing.assert_allclose(atoms.get_forces(), expected, atol=1e-10)


def test_mace_mp_out_of_reach_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # A proxy where nobody listens: out of reach on a machine that has a network, too.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    al = sampling("mace-mp0")
    start = time.monotonic()
    message = str(foundation_problem(al, *al.sources))
    assert time.monotonic() - start < 15
    assert "the model small is not at" in message
    assert str(menu()["small"].cached) in message
    assert "initial_sampling: foundation" in message
    with pytest.raises(ValueError, match=r"initial_sampling = mace-mp0: .* cannot be fetched"):
        foundation_calculator(al, *al.sources)


def test_cached_mace_mp_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    # Not MACE-MP-0 itself: a model of ours under the name MACE's cache looks for.
    Ensemble(settings(), (14,), (1,)).export(tmp_path, "stand-in")[0].rename(
        _made(menu()["medium"].cached)
    )
    al = sampling("mace-mp0", initial_foundational_size="medium")
    assert foundation_problem(al, *al.sources) is None
    atoms = bulk("Si", cubic=True)
    atoms.calc = foundation_calculator(al, *al.sources)
    assert np.isfinite(atoms.get_potential_energy())


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"foundation_model": "none.model"}, "none.model: no such file"),
        ({"foundation_model": __file__}, "not a MACE model"),
        ({"foundation_calculator": "no_such_package.Calculator"}, "no module no_such_package"),
        ({"foundation_calculator": "ase.calculators.emt.NoEMT"}, "no class NoEMT"),
        (
            {
                "foundation_calculator": "chgnet.model.dynamics.CHGNetCalculator",
                "foundation_arguments": {"model": 3},
            },
            "cannot be made with foundation_arguments",
        ),
        ({"foundation_calculator": "ase.Atoms"}, "is no ASE calculator"),
    ],
)
def test_what_is_no_foundation_model_is_named(changes: dict[str, Any], message: str) -> None:
    problem = str(foundation_problem(sampling(**changes), "foundation"))
    assert message in problem
    with pytest.raises(ValueError, match="initial_sampling = foundation: "):
        foundation_calculator(sampling(**changes), "foundation")
