"""Who may import what: each library has one home, and a labelling rank stays small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "fhi_al"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = {
    str(path.relative_to(SOURCE)): ast.parse(path.read_text())
    for path in sorted(SOURCE.rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """Dotted names of all that a module imports, late and for type checkers only included."""
    return imported(MODULES[module])


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all imports in a syntax tree."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
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
    assert {"core/trajectory.py", "parallel/mpi.py", "models/mace/backend.py"} <= set(MODULES)
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
    (("mace", "e3nn"), ["models/mace/"]),
    (("torch_ema",), ["models/optimisation.py"]),
    (("torch",), ["models/"]),
    (
        ("mpi4py",),
        ["parallel/mpi.py", "labels/", "engines/", "models/remote/", "app/", "cli.py"],
    ),
    (("asi4py",), ["engines/"]),
    (("parsl",), ["labels/cluster/parsl.py"]),
    (("psutil",), ["labels/cluster/processes.py"]),
    (("pydantic",), ["settings/", "engines/registry.py", "active_learning/saved_state.py"]),
    (("matplotlib",), ["report/calibration_figure.py", "evaluation/"]),
    (("tensorboard", "wandb"), ["report/metrics.py"]),
    (("rich",), ["report/terminal_bars.py", "report/status_view.py"]),
    (("shtab",), ["app/completion.py"]),
    (("yaml",), ["settings/", "app/isolated_atoms.py"]),
]


@pytest.mark.parametrize(("packages", "places"), HOMES, ids=[home[0][0] for home in HOMES])
def test_a_package_has_its_home(packages: tuple[str, ...], places: list[str]) -> None:
    found = importers(*packages)
    assert found
    assert found <= at(*places)


# From the ground up: a layer imports itself and layers of lower floors, never its neighbours.
FLOORS = [
    {"core"},
    {"settings", "storage", "process"},
    {"parallel"},
    {"engines", "models"},
    {"labels"},
    {"md", "report"},
    {"active_learning", "evaluation"},
    {"app"},
    {"cli"},
    {"__init__"},
]
# A floor is more than an order: what these layers know of others is less than what lies below them.
KNOWS = {
    # Settings become the options of the loop's parts in `app`.
    "active_learning": {
        "core",
        "engines",
        "labels",
        "md",
        "models",
        "parallel",
        "process",
        "report",
        "storage",
    },
    "md": {"core"},
    "engines": {"core", "parallel", "settings", "storage"},
    "labels": {"core", "engines", "parallel", "process", "storage"},
    "parallel": {"core"},
}


def test_a_kind_of_model_is_known_to_nobody_else() -> None:
    # Foundation models that sample the initial dataset are ASE calculators, not members; of those
    # that members start from, settings take the network.
    knowing = {m for m in MODULES if any(o.startswith("models.mace") for o in of_ours(m))}
    # What is judged is a file, whose network no settings need describe.
    others = ("app/foundation.py", "app/fine_tuning.py", "app/evaluate/models.py")
    assert knowing <= at("models/mace/", *others)
    everything = at("models/") - at("models/mace/")
    assert {"models/interface.py", "models/torch_backend.py"} <= everything


def layer_of(module: str) -> str:
    """The folder of a module at the top, or its own name if it is loose."""
    return module.split("/")[0].removesuffix(".py")


def test_every_module_is_in_a_layer_and_no_layer_is_empty() -> None:
    assert {layer_of(module) for module in MODULES} == {one for floor in FLOORS for one in floor}
    assert {module for module in MODULES if "/" not in module} == {"__init__.py", "cli.py"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    own = layer_of(module)
    (height,) = (k for k, floor in enumerate(FLOORS) if own in floor)
    below = {one for floor in FLOORS[:height] for one in floor}
    if own == "cli":
        below |= {"__init__"}
    found = {name.split(".")[0] or "__init__" for name in of_ours(module)}
    assert found <= KNOWS.get(own, below) | {own}, f"{module} imports {sorted(found - below)}"


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes each of which can be reached from each other one."""
    reached = {node: {node} for node in graph}
    changed = True
    while changed:
        changed = False
        for seen in reached.values():
            more = set().union(*(reached[other] for each in seen for other in graph[each])) - seen
            seen |= more
            changed |= bool(more)
    return sorted(
        {
            tuple(sorted(other for other in seen if node in reached[other]))
            for node, seen in reached.items()
            if len([other for other in seen if node in reached[other]]) > 1
        }
    )


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [("b", "c")]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_circle_of_imports_in_the_package() -> None:
    """Imports under TYPE_CHECKING and within functions count, too."""
    modules = {dotted(path): path for path in MODULES}
    graph = {
        name: {found for found in map(partial(home, modules), of_ours(path)) if found} - {name}
        for name, path in modules.items()
    }
    assert sum(map(len, graph.values())) > 300
    assert circles(graph) == []


def dotted(path: str) -> str:
    """models/mace/__init__.py as models.mace."""
    return path.removesuffix(".py").replace("/", ".").removesuffix("__init__").removesuffix(".")


def home(modules: Mapping[str, str], name: str) -> str | None:
    """The module that a dotted name is, or is in."""
    return next((one for one in (name, name.rpartition(".")[0]) if one in modules), None)


def test_no_circle_of_imports_in_the_benchmarks() -> None:
    trees = {path.stem: ast.parse(path.read_text()) for path in BENCHMARKS.glob("*.py")}
    graph = {
        name: {found.split(".")[0] for found in imported(tree)} & trees.keys() - {name}
        for name, tree in trees.items()
    }
    assert any(graph.values())
    assert circles(graph) == []


def test_ranks_are_looked_at_only_where_they_are_laid_out_and_served() -> None:
    looking = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("rank", "Get_rank")
    }
    assert {"parallel/mpi.py", "app/process_set_up.py"} <= looking
    assert looking <= at("parallel/", "labels/", "engines/", "app/process_set_up.py")


# What changes the process as a whole, by the last words of the name that is called or set.
PROCESS_WIDE = re.compile(
    r"(signal\.signal|os\.(environ|putenv|chdir|umask|nice|sched_setaffinity)|faulthandler\.enable"
    r"|sys\.(excepthook|stdout|stderr|path)|locale\.setlocale|gc\.(disable|freeze|set_threshold)"
    r"|torch\.(set_\w+|use_deterministic_algorithms|_C\._jit_set_\w+|manual_seed)"
    r"|mallopt|logging\.(disable|captureWarnings|basicConfig)|ase\.parallel\.world\.comm|warnings\.\w*filter\w*"
    r"|np\.(seterr|random\.seed|set_printoptions)|atexit\.register|multiprocessing\.set_\w+)"
)


def names_changed(tree: ast.AST) -> set[str]:
    """Dotted names that are called, assigned to, or of which an item or a method is."""
    changers = ("update", "setdefault", "pop", "append", "insert", "clear")
    targets: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            targets.append(node.func)
        elif isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets.append(node.target)
    owners = [
        target.value
        for target in targets
        if isinstance(target, ast.Subscript)
        or (isinstance(target, ast.Attribute) and target.attr in changers)
    ]
    return {ast.unparse(one) for one in [*targets, *owners]}


def test_the_process_is_changed_only_where_it_is_put_back() -> None:
    """In contexts of ``app.process_set_up``, or around a call of a library."""
    changing = {
        module: {name for name in names_changed(tree) if PROCESS_WIDE.fullmatch(name)}
        for module, tree in MODULES.items()
    }
    assert {module: names for module, names in changing.items() if names} == {
        "process/changes.py": {"os.environ", "os.sched_setaffinity"},
        "process/soft_stop.py": {"signal.signal"},
        "parallel/mpi.py": {"ase.parallel.world.comm"},
        "report/logs.py": {"logging.captureWarnings"},
        "models/torch_set_up.py": {
            "torch._C._jit_set_profiling_mode",
            "torch.set_num_threads",
        },
        "models/default_dtype.py": {"torch.set_default_dtype"},
        "models/torch_backend.py": {"torch.manual_seed"},
        "models/mace/__init__.py": {"logging.disable", "warnings.simplefilter"},
        "engines/aims_executable.py": {"warnings.simplefilter"},
        "engines/asi.py": {"os.chdir"},
        "labels/crash_trace.py": {"faulthandler.enable"},
    }


def test_only_the_commands_print() -> None:
    printing = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    # parallel/mpi.py: the last words of a rank that ends the job, when there is no log any more.
    assert printing <= {"cli.py", "parallel/mpi.py"}


def modules_after(code: str) -> set[str]:
    """Top-level packages in a fresh Python after some code."""
    program = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return set(run.stdout.split())


HEAVY = {"torch", "mace", "e3nn", "pydantic", "pandas", "matplotlib"}


def test_a_rank_that_only_labels_loads_nothing_heavy() -> None:
    loaded = modules_after(
        "import fhi_al.parallel.mpi, fhi_al.app.serving, fhi_al.models.remote.worker"
    )
    assert {"mpi4py", "numpy", "ase"} <= loaded
    assert not loaded & (HEAVY | {"yaml", "asi4py", "tblite"})


def test_a_job_on_a_cluster_loads_neither_mpi_nor_torch() -> None:
    worker = "import fhi_al.labels.cluster.worker"
    assert not modules_after(worker) & (HEAVY | {"mpi4py", "numpy", "ase", "parsl"})
    job = (
        "from fhi_al.engines import aims_executable, ase_calculator\n"
        "import fhi_al.labels.cluster.job, tblite.ase"
    )
    assert not modules_after(job) & (HEAVY | {"mpi4py", "parsl"})


def test_the_package_and_the_commands_load_nothing_heavy() -> None:
    loaded = modules_after("import fhi_al, fhi_al.cli")
    assert not loaded & (HEAVY | {"mpi4py", "ase", "numpy"})


def test_wrong_inputs_are_found_without_torch_and_scipy() -> None:
    loaded = modules_after("import fhi_al.app.open, fhi_al.app.checks")
    assert not loaded & {"torch", "mace", "e3nn", "scipy"}
