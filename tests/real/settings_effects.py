"""Which settings keys change nothing?  Run by test_settings_effects in a process of its own.

Every key of every section is given a second value, derived from its type, its bounds and its value
in each of a few situations.  The run is wired with both, and the two are compared: the
object graph of the wired run (without the settings themselves), who does what on 1 to 4 ranks, the
blocks of workers of a cluster, the files that were made, what was refused - and, if all that is the
same, what a small member becomes that is trained with them.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import functools
import hashlib
import inspect
import itertools
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
import yaml
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.io import write as write_frames
from models_parts import built_once, water_labels
from pydantic import BaseModel

from fhi_al import ActiveLearningProcedure, InitialDatasetProcedure, open_run
from fhi_al.active_learning.options import DISPLACED
from fhi_al.app.cluster_options import cluster_options
from fhi_al.app.fine_tuning import model_settings, with_foundation
from fhi_al.app.rank_assignment import rank_layout
from fhi_al.core.errors import InputError
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.labels.xyz import write_records
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.mace.fine_tuning import vary_readouts
from fhi_al.models.mace.menu import menu
from fhi_al.models.mace.new_model import new_model
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.models.mace.weights_file import write_weights
from fhi_al.models.training import SerialTrainingPool
from fhi_al.parallel.layout import RankPlacement
from fhi_al.settings import ActiveLearning, Settings, SettingsError, read_settings
from fhi_al.settings.fine_tuning import FineTuning
from fhi_al.settings.keys import FILE_NAMES, LAYOUTS, keys_below, keys_of, sections_of
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.value_types import Integer, setting

# In C where PyYAML has it.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Values = dict[str, Any]  # by SECTION.key; of both files
Description = dict[str, str]

INVENTED = "ACTIVE_LEARNING.invented"
WATER = "atom 0 0 0.1173 O\natom 0 0.7572 -0.4692 H\natom 0 -0.7572 -0.4692 H\n"

# A small model, and everything that has no value by default and some effect with the others.
BASE: Values = {
    "GENERAL.default_dtype": "float64",
    "ARCHITECTURE.atomic_energies": {1: -13.0, 8: -100.0},
    "ARCHITECTURE.model": "ScaleShiftMACE",
    "ARCHITECTURE.r_max": 3.0,
    "ARCHITECTURE.num_interactions": 1,
    "ARCHITECTURE.num_channels": 2,
    "ARCHITECTURE.max_L": 0,
    "ARCHITECTURE.max_ell": 1,
    "ARCHITECTURE.correlation": 2,
    "ARCHITECTURE.num_radial_basis": 3,
    "ARCHITECTURE.radial_MLP": [4],
    "ARCHITECTURE.MLP_irreps": "2x0e",
    "TRAINING.batch_size": 2,
    "TRAINING.valid_batch_size": 2,
    "TRAINING.ema": True,
    "TRAINING.clip_grad": 0.1,
    "TRAINING.config_type_weights": {"Default": 1.0, "initial": 2.0},
    "mace.MISC.num_threads": 1,
    "ACTIVE_LEARNING.reference_engine": "tblite",
    "ACTIVE_LEARNING.reference_arguments": {"accuracy": 1.0},
    "ACTIVE_LEARNING.initial_sampling": "aimd",
    "ACTIVE_LEARNING.desired_acc": 0.02,
    "ACTIVE_LEARNING.max_MD_steps": 5000,
    "ACTIVE_LEARNING.max_set_size": 100,
    "ACTIVE_LEARNING.analysis": True,
    "SYSTEMS.name": "water",
    "active_learning.MISC.walltime_limit": 1000.0,
}
CLUSTER: Values = {
    "ACTIVE_LEARNING.parallel": True,
    "ACTIVE_LEARNING.cluster.provider": "slurm",
    "ACTIVE_LEARNING.cluster.max_jobs": 3,
    "ACTIVE_LEARNING.cluster.partition": "short",
    "ACTIVE_LEARNING.cluster.account": "physics",
    "ACTIVE_LEARNING.cluster.scheduler_options": "#SBATCH --mem=3G",
    "ACTIVE_LEARNING.cluster.worker_init": "export A=1",
}
# What is different from BASE; None: the key is left out.
SITUATIONS: dict[str, Values] = {
    "serial": {},
    "quantile, calibrated, Berendsen, ExponentialLR": {
        "ACTIVE_LEARNING.threshold_type": "quantile",
        "ACTIVE_LEARNING.calibrate": True,
        "ACTIVE_LEARNING.calibrated_threshold": 0.1,
        "ACTIVE_LEARNING.reference_arguments": None,
        "MD.thermostat": "Berendsen",
        "TRAINING.scheduler": "ExponentialLR",
        "TRAINING.swa": True,
        "TRAINING.start_swa": 7,
        "TRAINING.swa_energy_weight": 10.0,
    },
    "parallel, Andersen": {
        "ACTIVE_LEARNING.parallel": True,
        "ACTIVE_LEARNING.reference_groups": 1,
        "MD.thermostat": "Andersen",
        "MD.name": "hot",
        "MD.temperature": {"from": 300.0, "to": 600.0, "over": 100},
        "ARCHITECTURE.model": "MACE",
        "ARCHITECTURE.interaction_first": "RealAgnosticInteractionBlock",
        "ARCHITECTURE.num_interactions": 2,
    },
    "any calculator samples and labels": {
        "ACTIVE_LEARNING.reference_engine": "ase",
        "ACTIVE_LEARNING.reference_calculator": "ase.calculators.lj.LennardJones",
        "ACTIVE_LEARNING.initial_sampling": "foundation",
        "ACTIVE_LEARNING.foundation_calculator": "ase.calculators.lj.LennardJones",
        "ACTIVE_LEARNING.foundation_arguments": {"epsilon": 0.1},
    },
    "a model file samples": {
        "ACTIVE_LEARNING.initial_sampling": "foundation",
        "ACTIVE_LEARNING.foundation_model": "absent.model",
    },
    "labels of the user's": {"ACTIVE_LEARNING.initial_data": [{"file": "data_1.xyz"}]},
    "two temperatures": {
        "MD.temperature": [300.0, 500.0],
        "SYSTEMS.md": ["300K", "500K"],
        "SYSTEMS.arguments": {"max_iterations": 200},
    },
    "two temperatures in another order": {
        "MD.temperature": [300.0, 500.0],
        "SYSTEMS.md": ["500K", "300K"],
    },
    "MACE-MP-0 samples": {"ACTIVE_LEARNING.initial_sampling": "mace-mp0"},
    "displaced, and ab initio MD": {
        "ACTIVE_LEARNING.initial_sampling": ["displaced", "aimd"],
        "ACTIVE_LEARNING.displaced.rattled": 3,
        "ACTIVE_LEARNING.displaced.dimers": 2,
    },
    "members of a foundation model, but for their readouts": {
        "ARCHITECTURE.foundation_model": "tiny_1.npz",
        "TRAINING.fine_tuning": "frozen",
    },
    "adapters on one head of a foundation model": {
        "ARCHITECTURE.foundation_model": "heads.model",
        "ARCHITECTURE.foundation_head": "head_1",
        "TRAINING.fine_tuning": "lora",
        "TRAINING.lora_rank": 2,
    },
    "replay of a file": {
        "ARCHITECTURE.foundation_model": "tiny_1.npz",
        "TRAINING.fine_tuning": "replay",
        "TRAINING.replay_file": "replay_1.xyz",
        "TRAINING.replay_batch": 2,
    },
    "replay of structures that are made": {
        "ARCHITECTURE.foundation_model": "tiny_1.npz",
        "TRAINING.fine_tuning": "replay",
        "TRAINING.replay_structures": 2,
    },
    "a model with a licence": {
        "ARCHITECTURE.foundation_model": "small_off",
        "ARCHITECTURE.accept_licence": True,
    },
    "cluster": {
        **CLUSTER,
        "ACTIVE_LEARNING.reference_engine": "aims",
        "ACTIVE_LEARNING.reference_arguments": None,
        "ACTIVE_LEARNING.species_dir": "species",
        "ACTIVE_LEARNING.cluster.aims_command": "srun -n 2 aims.x",
    },
    "aims": {
        "ACTIVE_LEARNING.reference_engine": "aims",
        "ACTIVE_LEARNING.reference_arguments": None,
        "ACTIVE_LEARNING.species_dir": "species",
        "ACTIVE_LEARNING.aims_lib_path": "absent.so",
        "SYSTEMS.control": "control.in",
    },
    "an architecture that every kind of models has": {
        key: None
        for key in BASE
        if key.startswith("ARCHITECTURE.") and not key.endswith(("r_max", "atomic_energies"))
    },
}

CACHE = "cache"  # of MACE
PAIR_POTENTIALS = "pair_potential:PairPotential"


def inputs(situation: str, label: str) -> Values:
    """A situation; with models that are built faster where a key is none of theirs."""
    values = BASE | SITUATIONS[situation]
    of_models = (*sections_of("mace"), "mace")
    if label.partition(".")[0] in of_models or label == "ACTIVE_LEARNING.model_backend":
        return values
    everywhere = ("ARCHITECTURE.r_max", "ARCHITECTURE.atomic_energies")
    return {
        key: value
        for key, value in values.items()
        if key in everywhere or not key.startswith("ARCHITECTURE.")
    } | {"ACTIVE_LEARNING.model_backend": PAIR_POTENTIALS}


def keys() -> dict[str, Any]:
    """Every key that has a plain value: its field, by its label with the file where two have it."""
    found = {}
    for kind in LAYOUTS:
        for section, model in sections_of(kind).items():
            for key, info in keys_of(model).items():
                if keys_below(info) is None:
                    prefix = f"{kind}." if section == "MISC" else ""
                    found[f"{prefix}{section}.{key}"] = info
    return found


def write(folder: Path, values: Values) -> None:
    """The inputs of a run with these values."""
    files: dict[str, dict[str, Any]] = {kind: {} for kind in LAYOUTS}
    for label, value in values.items():
        if value is None:
            continue
        *where, key = label.split(".")
        kind = where.pop(0) if where[0] in files else ""
        kind = kind or next(kind for kind in LAYOUTS if where[0] in LAYOUTS[kind])
        section = files[kind]
        for name in where:
            section = section.setdefault(name, {})
        section[key] = value
    for kind, content in files.items():
        (folder / FILE_NAMES[kind]).write_text(yaml.dump(content, Dumper=DUMPER))


# --- a second value -----------------------------------------------------------------------------


def others(value: Any, info: Any) -> Iterator[Any]:
    """Other values of a key than the one it has; some may be refused."""
    annotation = info.annotation
    if get_origin(annotation) is Literal:
        yield from (choice for choice in get_args(annotation) if choice != value)
    elif get_args(annotation) and get_origin(get_args(annotation)[0]) is Literal:
        # One of them, or a list of some.
        yield from (each for each in get_args(get_args(annotation)[0]) if each != value)
    elif value == "auto" and bool in get_args(annotation):
        yield from (True, False)
    elif value == "auto" and float in get_args(annotation):
        yield from (0.05, 0.5)
    elif isinstance(value, PurePath):
        yield str(value) + "_2"
    elif value == "mace":
        yield PAIR_POTENTIALS
    else:
        yield from changed(value)


def changed(value: Any) -> Iterator[Any]:
    """Values of the same type: numbers in it are larger or smaller, words longer."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, 2 * value)
    elif isinstance(value, float):
        yield from (1.1 * value, 0.9 * value, 0.5 if value != 0.5 else 0.6) if value else (0.1, 1.0)
    elif isinstance(value, str):
        if "." in value and value.startswith("ase."):
            yield "ase.calculators.morse.MorsePotential"
        elif number := re.search(r"[1-9]", value):
            digit = str(int(number[0]) % 9 + 1)
            yield value[: number.start()] + digit + value[number.end() :]
        else:
            yield from (value + "x", "cuda", "2")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            for other in changed(inner):
                yield {**value, key: other}
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            for other in changed(inner):
                yield [*value[:place], other, *value[place + 1 :]]


# --- what a run is made of ----------------------------------------------------------------------


class Walk:
    """The object graph as path -> text.  Settings are left out: they hold every value anyway."""

    def __init__(self) -> None:
        self.found: Description = {}
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # so that no identity is used twice

    def add(self, path: str, value: Any) -> None:
        if isinstance(value, BaseModel | Settings | argparse.Namespace):
            return
        if isinstance(value, enum.Enum | str | bytes | int | float | complex | PurePath | None):
            self.found[path] = repr(value)
        elif isinstance(value, np.ndarray | torch.Tensor):
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
            self.found[path] = f"{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
        elif isinstance(value, torch.dtype | torch.device | type):
            self.found[path] = str(value)
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            self._kept.append(value)
            self._add_parts(path, value)

    def _add_parts(self, path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            if value and all(re.match(r"[A-Z_]+(\[\d+\])?\.", str(key)) for key in value):
                return  # all settings by their labels, for a snapshot
            for key, inner in value.items():
                self.add(f"{path}[{key!r}]", inner)
        elif isinstance(value, list | tuple | set | frozenset):
            for place, inner in enumerate(value):
                self.add(f"{path}[{place}]", inner)
        elif isinstance(value, functools.partial):
            self.add(f"{path}.func", value.func)
            self.add(f"{path}.args", (value.args, value.keywords))
        elif inspect.ismethod(value):
            self.found[path] = value.__qualname__
            self.add(f"{path}.self", value.__self__)
        elif inspect.isfunction(value):
            code = value.__code__
            self.found[path] = f"{value.__qualname__}, line {code.co_firstlineno}"
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                with contextlib.suppress(ValueError):  # still empty
                    self.add(f"{path}<{name}>", cell.cell_contents)
        else:
            self.found[path] = type(value).__qualname__
            if isinstance(value, Calculator):
                self.add(f"{path}.parameters", value.parameters)
            if type(value).__module__.startswith("fhi_al."):
                for name in _attributes(value):
                    self.add(f"{path}.{name}", getattr(value, name))


def _attributes(value: Any) -> list[str]:
    slots = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
    return [*getattr(value, "__dict__", {}), *(name for name in slots if hasattr(value, name))]


def wired(folder: Path) -> Description:
    """The run that a folder's inputs make, without running it."""
    walk = Walk()
    settings = read_settings(folder)
    try:
        with open_run(folder) as run:
            procedures = InitialDatasetProcedure(run), ActiveLearningProcedure(run)
            walk.add("run", [run, *procedures])
            system = run.sampling_md.md_system(0, 0)
            of_md = [source for source in settings.al.sources if source != DISPLACED]
            forces = [
                run.sampling_md.forces(source, TrajectoryState(0), system) for source in of_md
            ]
            walk.add("sampling", [system, forces, of_md])
            walk.add("threads", torch.get_num_threads())
            walk.add("log level", logging.getLogger("fhi_al").level)
    except (InputError, SettingsError) as error:
        walk.add("refused", str(error))
    place = RankPlacement("here", tuple(range(8)), 1)
    for n_ranks in (1, 2, 3, 4):
        try:
            walk.add(f"layout[{n_ranks}]", repr(rank_layout(settings, (place,) * n_ranks)))
        except InputError as error:
            walk.add(f"layout[{n_ranks}]", str(error))
    if settings.al.cluster is not None:
        walk.add("cluster", cluster_options(settings))
    replay = folder / "restart" / "replay.xyz"
    walk.add("replay", replay.read_text() if replay.is_file() else None)
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    walk.add("files", sorted(str(path) for path in files))
    return walk.found


def trained(folder: Path) -> Description:
    """A small member after two epochs with a folder's settings, and what its model was handed."""
    walk, sizes = Walk(), []
    try:
        whole = with_foundation(read_settings(folder))
    except SettingsError as error:
        walk.add("refused", str(error))
        return walk.found
    assert whole.mace is not None
    replay_file = whole.mace.training.replay_file
    settings = model_settings(whole, replay_file and whole.resolve(replay_file))

    def look(module: Any, arguments: Any) -> None:
        if "MACE" in type(module).__name__ and arguments and "ptr" in arguments[0]:
            sizes.append(len(arguments[0]["ptr"]) - 1)

    labels = _labels()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        made = built_once(Ensemble(settings, (1, 8), (11,)))
        (member,) = made.members
        member.add_training(labels[:-3])
        member.add_validation(labels[-3:])
        walk.add("normalisation", member.fit_normalisation())
        member.fresh_optimizer(scheduler=True)
        walk.add("records", SerialTrainingPool(made, 1).begin([0], 2).finish())
        walk.add("state", member.state())
        if settings.training.swa:
            member.begin_second_stage()
            walk.add("second stage", SerialTrainingPool(made, 1).begin([0], 1).finish())
            walk.add("state of it", member.state())
        walk.add("sizes", sizes)
    except (ValueError, RuntimeError) as error:  # MACE refuses a combination: an effect, too
        walk.add("refused", f"{type(error).__name__}: {error}")
    finally:
        hook.remove()
    return walk.found


@functools.cache
def _labels() -> Any:
    return water_labels(7)


@functools.cache
def _foundation_files() -> dict[str, bytes]:
    """Two foundation models of the architecture of BASE, one with two heads, and replays."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of_base = {
            key.partition(".")[2]: value
            for key, value in BASE.items()
            if key.startswith("ARCHITECTURE.") and not key.endswith("atomic_energies")
        }
        sections = {"ARCHITECTURE": of_base, "GENERAL": {"default_dtype": "float64"}}
        backend = MaceBackend(MaceSettings.model_validate(sections), (1, 6, 8))
        for number in (1, 2):
            model = to_mace_model(backend.module(number), (0.0, 0.0, 0.0))
            write_weights(model, folder / f"tiny_{number}.npz")
        both = new_model(backend.arguments, backend.table, ("head_1", "head_2"), model)
        vary_readouts(both, "perturbed", 0.1)
        torch.save(both, folder / "heads.model")
        torch.save(model, folder / "one_head.model")
        for number in (1, 2):
            water = molecule("H2O")
            frames = [water.copy() for _ in range(3)]
            for place, frame in enumerate(frames):
                frame.rattle(0.05, seed=10 * number + place)
            write_frames(folder / f"replay_{number}.xyz", frames)
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        return found | {f"{CACHE}/mace/{menu()['small_off'].cached.name}": found["one_head.model"]}


# --- the search ---------------------------------------------------------------------------------


class Outcome(enum.Enum):
    """What came of another value."""

    EFFECT = "something is different"
    TOLD = "the program says that the key has no effect, or that the value is not supported"
    NONE = "nothing is different"
    REFUSED = "no valid value"


def _order(label: str) -> Iterator[tuple[Callable[[Path], Description], str]]:
    """What to compare, and where, until there is a difference."""
    key = label.partition(".")[2]
    if key in keys_of(FineTuning) or key.startswith(("foundation_", "accept_")):
        of_foundations = [s for s, v in SITUATIONS.items() if "ARCHITECTURE.foundation_model" in v]
        for describe, situation in itertools.product((trained, wired), of_foundations):
            if not label.startswith("ACTIVE_LEARNING."):
                yield describe, situation
    first, *rest = SITUATIONS
    yield wired, first
    if label.startswith(("GENERAL.", "ARCHITECTURE.", "TRAINING.")):
        for situation, values in SITUATIONS.items():
            if situation == first or any(
                key.partition(".")[0] in ("ARCHITECTURE", "TRAINING") for key in values
            ):
                yield trained, situation
    for situation in rest:
        yield wired, situation


class Search:
    """Looks for an effect of each key.

    Parameters
    ----------
    folder : Path
        Where runs are wired, one after the other.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before: dict[tuple[str, str, Callable[[Path], Description]], Description] = {}
        self._known: dict[str, Settings] = {}  # of situations, by their values
        self._is_fresh = False

    def found(self, labels: Mapping[str, Any]) -> tuple[int, dict[str, str]]:
        """The number of keys, and why each that changes nothing was not found to do so."""
        self._known.clear()  # there may be other keys than the last time
        looks = {label: self._look(label, info) for label, info in labels.items()}
        return len(labels), {label: why for label, why in looks.items() if why}

    def _look(self, label: str, info: Any) -> str:
        tried: list[str] = []
        outcomes = set()
        for describe, situation in _order(label):
            for value in self._values(situation, label, info):
                outcome = self._outcome(situation, label, value, describe)
                if outcome is Outcome.EFFECT:
                    return ""
                outcomes.add(outcome)
                if outcome is Outcome.NONE:
                    tried.append(f"{situation}: {value!r}")
        if outcomes - {Outcome.REFUSED} == {Outcome.TOLD}:
            return ""
        return f"no effect of {'; '.join(dict.fromkeys(tried)) or 'any value that was tried'}"

    def _values(self, situation: str, label: str, info: Any) -> list[Any]:
        values = inputs(situation, label)
        if repr(values) not in self._known:
            self._known[repr(values)] = self._settings(values)
        value = _value(self._known[repr(values)], label)
        if value is None:
            default = info.get_default(call_default_factory=True)
            value = (
                default if default is not None else 1.0 if "float" in str(info.annotation) else 1
            )
            # A budget of one is refused.
            return (
                [value, *([1000] if isinstance(value, int) else [])]
                if "| None" in str(info.annotation) or "Optional" in str(info.annotation)
                else []
            )
        elsewhere = [each[label] for each in (BASE, *SITUATIONS.values()) if each.get(label)]
        return [*others(value, info), *(each for each in elsewhere if each != value)]

    def _settings(self, values: Values) -> Settings:
        if not self._is_fresh:
            self._fresh()
        write(self._folder, values)
        return read_settings(self._folder)

    def _outcome(
        self, situation: str, label: str, value: Any, describe: Callable[[Path], Description]
    ) -> Outcome:
        try:
            settings = self._settings(inputs(situation, label) | {label: value})
        except SettingsError as error:
            return Outcome.TOLD if "supported" in str(error) else Outcome.REFUSED
        plain = label.removeprefix("mace.").removeprefix("active_learning.")
        for note in settings.notes:
            if note.startswith(f"{plain} = ") and ("no effect" in note or "superseded" in note):
                return Outcome.TOLD
        after = self._described(describe)
        before = self._description(situation, label, describe)
        is_same = all(after.get(path) == text for path, text in before.items())
        return Outcome.NONE if is_same else Outcome.EFFECT

    def _description(
        self, situation: str, label: str, describe: Callable[[Path], Description]
    ) -> Description:
        """What is the same in two runs with the same settings."""
        values = inputs(situation, label)
        kind = (str(values.get("ACTIVE_LEARNING.model_backend")), situation, describe)
        known = self._before.get(kind)
        if known is None:
            twice = []
            for _ in range(2):
                self._settings(values)
                twice.append(self._described(describe))
            known = {p: text for p, text in twice[0].items() if twice[1].get(p) == text}
            self._before[kind] = known
        return known

    def _described(self, describe: Callable[[Path], Description]) -> Description:
        self._is_fresh = False  # a run leaves files
        return describe(self._folder)

    def _fresh(self) -> None:
        self._is_fresh = True
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in ("species", "species_2"):
            (self._folder / name).mkdir(parents=True)
            for number, symbol in ((1, "H"), (8, "O")):
                text = f"  species {symbol}\n    nucleus {number}\n    # {name}\n"
                (self._folder / name / f"{number:02d}_{symbol}_default").write_text(text)
        (self._folder / "geometry.in").write_text(WATER)
        write_records(self._folder / "data_1.xyz", _labels())
        (self._folder / "control.in").write_text("xc pbe\n")
        (self._folder / CACHE / "mace").mkdir(parents=True)
        for name, content in _foundation_files().items():
            (self._folder / name).write_bytes(content)
            os.utime(self._folder / name, (0, 0))  # the same files: read once


def _value(settings: Settings, label: str) -> Any:
    """The value of a key, also of one below a key; None if there is none."""
    *where, key = label.split(".")
    kind = where.pop(0) if where[0] in LAYOUTS else ""
    kind = kind or next(kind for kind in LAYOUTS if where[0] in LAYOUTS[kind])
    return settings._files[kind].value(".".join([*where, key]))


def invent() -> dict[str, Any]:
    """A key that the program does not know of, in the section where most are."""
    ActiveLearning.model_fields["invented"] = setting(1, "Invented.", ge=0)
    ActiveLearning.model_fields["invented"].annotation = int
    ActiveLearning.__annotations__["invented"] = Integer
    ActiveLearning.model_rebuild(force=True)
    return {label: info for label, info in keys().items() if label == INVENTED}


def read_it_in_vain() -> None:
    """Read the invented key where a run is wired, and do nothing with it."""
    from fhi_al.app import options

    original = options.criterion

    def criterion(al: Any, *more: Any) -> Any:
        assert al.invented >= 0
        return original(al, *more)

    options.criterion = criterion


def use_it() -> None:
    """Let the invented key decide something."""
    from fhi_al.app import options

    original = options.criterion
    options.criterion = lambda al, *more: original(
        al.model_copy(update={"threshold_window": al.threshold_window + al.invented}), *more
    )


def main(folder: Path, key: str = "") -> None:
    """Print, as the last line, how many keys there are and those without effect.

    Parameters
    ----------
    folder : Path
        For the runs.
    key : str, optional
        Look at this one (``SECTION.key``).  Without it, by case: of ``all``, and of an invented
        one that is ``unread``, ``read in vain`` or ``used``.
    """
    os.environ["PATH"] = f"{Path(__file__).with_name('fake_slurm')}:{os.environ['PATH']}"
    # Nobody answers there, and at once: how long a network takes to fail is different every time.
    os.environ["https_proxy"] = os.environ["http_proxy"] = "http://127.0.0.1:9"
    os.environ["XDG_CACHE_HOME"] = str(folder / CACHE)
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # thousands of small files
    search = Search(folder)
    if key:
        print("\n" + json.dumps(search.found({key: keys()[key]})))
        return
    found = {"all": search.found(keys())}
    invented = invent()
    found["unread"] = search.found(invented)
    read_it_in_vain()
    found["read in vain"] = search.found(invented)
    use_it()
    # What decides something decides with its default value, too.
    found["used"] = Search(folder).found(invented)
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
