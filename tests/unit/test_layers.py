"""Who may import what: each library has one home, and a labelling rank stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "fhi_al"
MODULES = {
    str(path.relative_to(SOURCE)): ast.parse(path.read_text())
    for path in sorted(SOURCE.rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """Dotted names of all that a module imports, late and for type checkers only included."""
    names: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers(*packages: str) -> set[str]:
    """The modules that import any of these packages."""
    return {
        module
        for module in MODULES
        if any(name.split(".")[0] in packages for name in imports(module))
    }


def at(*places: str) -> set[str]:
    """The modules at these places: files, or folders that end in a slash."""
    return {
        module
        for module in MODULES
        for place in places
        if module == place or (place.endswith("/") and module.startswith(place))
    }


def of_ours(module: str) -> Iterator[str]:
    """The modules and folders of fhi_al that a module imports."""
    for name in imports(module):
        if name.split(".")[0] == "fhi_al":
            yield name.removeprefix("fhi_al").removeprefix(".")


def test_the_modules_are_found() -> None:
    assert {"core/trajectory.py", "mpi.py", "models/mace_adapter/model.py"} <= set(MODULES)
    assert "numpy" in imports("core/structure.py")
    assert "fhi_al.core.structure.Array" in imports("core/label.py")


@pytest.mark.parametrize("module", sorted(at("core/")))
def test_the_core_is_pure(module: str) -> None:
    libraries = {name.split(".")[0] for name in imports(module)} - set(sys.stdlib_module_names)
    assert libraries <= {"fhi_al", "numpy"}
    assert all(name.startswith("core.") for name in of_ours(module))
    # Nor does it look at files, the clock or the environment.
    assert not imports(module) & {"os", "time", "pathlib", "pathlib.Path", "logging", "random"}


# The only places that may import a package, and a place where it must be found.
HOMES = [
    (("mace", "e3nn", "torch_ema"), ["models/mace_adapter/"]),
    (("torch",), ["models/"]),
    (
        ("mpi4py",),
        [
            *["mpi.py", "reference/", "assemble.py", "session.py", "cli.py", "isolated_atoms.py"],
            *[
                "serving.py",
                "label_supply.py",
                "models/spread_training.py",
                "models/spread_prediction.py",
                "models/training_rank.py",
            ],
        ],
    ),
    (("asi4py",), ["reference/"]),
    (("greenlet",), ["md/together.py"]),
    (("parsl",), ["reference/cluster_parsl.py"]),
    (("psutil",), ["reference/processes.py"]),
    (("pydantic",), ["settings/", "procedures/snapshot.py"]),
    (("matplotlib",), ["report/calibration_figure.py"]),
    (("yaml",), ["settings/", "procedures/atomic_energies.py"]),
]


@pytest.mark.parametrize(("packages", "places"), HOMES, ids=[home[0][0] for home in HOMES])
def test_a_package_has_its_home(packages: tuple[str, ...], places: list[str]) -> None:
    found = importers(*packages)
    assert found
    assert found <= at(*places)


# A layer may import itself and those after it on its line, never those before.
LAYERS = [
    ("report/", ["core", "layout", "dataset", "atomic_file", "report", "models", "settings"]),
    ("md/", ["core", "md", "reference"]),
    # A foundation model may be any ASE calculator: the import of those lives in reference.
    ("models/", ["core", "models", "settings", "atomic_file", "heap", "reference", "mpi"]),
    (
        "reference/",
        ["core", "event_order", "dataset", "reference", "aims", "mpi", "atomic_file", "heap"],
    ),
    ("aims/", ["core", "aims"]),
    ("settings/", ["core", "settings"]),
    ("mpi.py", ["layout", "reference"]),
    ("layout.py", []),
    ("event_order.py", []),
    ("dataset.py", ["core"]),
    ("checkpoint.py", ["atomic_file"]),
    ("atomic_file.py", []),
    ("heap.py", []),
]


@pytest.mark.parametrize(("place", "allowed"), LAYERS, ids=[layer[0] for layer in LAYERS])
def test_a_layer_imports_only_those_below(place: str, allowed: list[str]) -> None:
    for module in at(place):
        found = {name.split(".")[0] for name in of_ours(module)}
        assert found <= set(allowed), f"{module} imports {sorted(found - set(allowed))}"


def test_nothing_below_imports_the_top() -> None:
    top = {"cli", "assemble", "session", "isolated_atoms", "preflight", "crew", "sampling"} | {
        "label_supply"
    }
    for module in at(
        "procedures/", "reference/", "models/", "md/", "report/", "settings/", "aims/"
    ):
        found = {name.split(".")[0] for name in of_ours(module)}
        assert not found & top, f"{module} imports {sorted(found & top)}"


def test_ranks_are_looked_at_only_where_they_are_laid_out_and_served() -> None:
    looking = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("rank", "Get_rank")
    }
    assert {"mpi.py", "cli.py"} <= looking
    assert looking <= at("mpi.py", "reference/", "session.py", "cli.py")


def test_only_the_commands_print() -> None:
    printing = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    # mpi.py: the last words of a rank that ends the job, when there is no log any more.
    assert printing <= {"cli.py", "mpi.py"}


def modules_after(code: str) -> set[str]:
    """Top-level packages in a fresh Python after some code."""
    program = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return set(run.stdout.split())


HEAVY = {"torch", "mace", "e3nn", "pydantic", "pandas", "matplotlib"}


def test_a_rank_that_only_labels_loads_nothing_heavy() -> None:
    loaded = modules_after("import fhi_al.mpi, fhi_al.serving, fhi_al.models.training_rank")
    assert {"mpi4py", "numpy", "ase"} <= loaded
    assert not loaded & (HEAVY | {"yaml", "asi4py", "tblite"})


def test_a_job_on_a_cluster_loads_neither_mpi_nor_torch() -> None:
    worker = "import fhi_al.reference.cluster_worker"
    assert not modules_after(worker) & (HEAVY | {"mpi4py", "numpy", "ase", "parsl"})
    engines = "aims_executable, ase_engine, cluster_job"
    job = f"from fhi_al.reference import {engines}; import tblite.ase"
    assert not modules_after(job) & (HEAVY | {"mpi4py", "parsl"})


def test_the_package_and_the_commands_load_nothing_heavy() -> None:
    loaded = modules_after("import fhi_al, fhi_al.cli")
    assert not loaded & (HEAVY | {"mpi4py", "ase", "numpy"})


def test_wrong_inputs_are_found_without_torch() -> None:
    assert not modules_after("import fhi_al.session, fhi_al.preflight") & {"torch", "mace", "e3nn"}
