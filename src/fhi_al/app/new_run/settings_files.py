"""What a new run's two settings files say: for a goal, an engine and a structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fhi_al.app.new_run.commented_yaml import Key, Lines, commented_yaml
from fhi_al.app.new_run.structure import StartingStructure
from fhi_al.settings.json_schema import schema_line

Goal = Literal["quick", "production"]
GOALS: tuple[Goal, ...] = ("quick", "production")

# How much is sampled, labelled and trained: minutes with xTB, or what a publication takes.
_AMOUNTS: Mapping[Goal, Mapping[str, Any]] = {
    "quick": {
        "label_budget": 60,
        "desired_acc": 0.02,
        "ensemble_size": 3,
        "n_samples": 6,
        "max_initial_epochs": 100,
        "num_trajectories": 4,
        "max_MD_steps": 2400,
        "max_epochs_worker": 5,
        "sanity_skip": 600,
        "max_final_epochs": 100,
        "patience": 30,
    },
    "production": {
        "label_budget": 600,
        "desired_acc": 0.01,
        "ensemble_size": 4,
        "n_samples": 10,
        "max_initial_epochs": 500,
        "num_trajectories": 8,
        "max_MD_steps": 20000,
        "max_epochs_worker": 20,
        "sanity_skip": 2000,
        "max_final_epochs": 500,
        "patience": 50,
    },
}
# Where a structure has many atoms each label says more, and each step takes longer.
MANY_ATOMS = 24
_AMOUNTS_OF_MANY: Mapping[Goal, Mapping[str, Any]] = {
    "quick": {
        "label_budget": 30,
        "n_samples": 4,
        "max_MD_steps": 1200,
        "sanity_skip": 400,
    },
    "production": {},
}
# eV/A.  Forces of a crystal near rest are small (LiF at 300 K: 0.1 to 0.2): an error of 0.02 ended
# active learning after 80 MD steps, and MD on the final models left the crystal.
ACCURACY_OF_CRYSTALS = 0.002
# Labels are few where models know much before.
_FINE_TUNING_BUDGET: Mapping[Goal, int] = {"quick": 20, "production": 200}
_NETWORKS: Mapping[Goal, Mapping[str, Any]] = {
    "quick": {
        "r_max": 5.0,
        "num_channels": 32,
        "max_L": 0,
        "max_ell": 3,
        "correlation": 2,
        "radial_MLP": [16, 16, 16],
    },
    "production": {
        "r_max": 5.0,
        "num_channels": 64,
        "max_L": 1,
        "max_ell": 3,
        "correlation": 3,
        "radial_MLP": [64, 64, 64],
    },
}
# A crystal has five times the neighbours of a molecule.
_NETWORKS_OF_CRYSTALS: Mapping[Goal, Mapping[str, Any]] = {
    "quick": {"r_max": 4.5, "num_channels": 16, "max_ell": 2},
    "production": {},
}
# eV/A^3 are large units: an error of 1 GPa counts as one of 0.02 eV/A.
STRESS_WEIGHT = 10000.0


@dataclass(frozen=True)
class Plan:
    """What is wanted of a new run.

    Parameters
    ----------
    goal : str
    start : StartingStructure
    engine_keys : sequence of Key or str
        What ACTIVE_LEARNING says of the engine.
    temperatures : sequence of float
        In K.
    foundation : str or None
        Name or file of the model that members start from.
    device : str
        ``MISC.device``.
    stress : bool
        Whether labels have one.
    """

    goal: Goal
    start: StartingStructure
    engine_keys: Lines
    temperatures: Sequence[float]
    foundation: str | None
    device: str
    stress: bool = False

    @property
    def has_many_atoms(self) -> bool:
        """Whether each label says much, and each step takes long."""
        return len(self.start.structure) > MANY_ATOMS

    @property
    def amounts(self) -> Mapping[str, Any]:
        """Keys that say how much is sampled, labelled and trained."""
        of_many = _AMOUNTS_OF_MANY[self.goal] if self.has_many_atoms else {}
        of_crystals = {"desired_acc": ACCURACY_OF_CRYSTALS} if self.start.structure.pbc else {}
        return {**_AMOUNTS[self.goal], **of_many, **of_crystals}

    @property
    def network(self) -> Mapping[str, Any]:
        """Keys of the network."""
        of_crystals = _NETWORKS_OF_CRYSTALS[self.goal] if self.start.structure.pbc else {}
        return {**_NETWORKS[self.goal], **of_crystals}

    @property
    def batch_size(self) -> int:
        """Structures of a step of training: few where each has many atoms."""
        return 2 if self.has_many_atoms else 5

    @property
    def title(self) -> str:
        """First comment of both files."""
        made = f"{self.goal}, from {self.foundation}" if self.foundation else self.goal
        return f"{self.start.origin}; written by FHI_AL-init for: {made}"


def active_learning_text(plan: Plan) -> str:
    """``active_learning_settings.yaml``."""
    head = [
        schema_line("active_learning"),
        plan.title,
        "Keys that are not here have defaults: FHI_AL --check shows them.",
    ]
    lines = [*plan.engine_keys, *_amounts(plan)]
    return commented_yaml(head, {"ACTIVE_LEARNING": lines, "MD": _md(plan)})


def _amounts(plan: Plan) -> list[Key | str]:
    amounts = plan.amounts

    def key(name: str, comment: str = "") -> Key:
        return Key(name, amounts[name], comment)

    n_labels = _FINE_TUNING_BUDGET[plan.goal] if plan.foundation else amounts["label_budget"]
    found: list[Key | str] = [
        "When it ends: all labels are used, or the error is small enough.",
        Key("label_budget", n_labels, "reference calculations in all, tests included"),
        key("desired_acc", "eV/A, force MAE on validation points"),
        "Models that judge each other: where they disagree, a label is computed.",
        key("ensemble_size"),
    ]
    if plan.foundation:
        found += [
            "No initial dataset: models that start from a foundation model drive MD at once.",
            Key("initial_sampling", "none"),
        ]
    else:
        strained = ", and strained cells" if plan.stress else ""
        found += [
            f"First labels: atoms displaced at random{strained}.",
            "Also MD on mace-mp0 (a foundation model, which is downloaded) or on the reference",
            "engine (aimd, each step a label).",
            Key("initial_sampling", "displaced"),
            key("n_samples", "points per model and round"),
            key("max_initial_epochs"),
        ]
    return [
        *found,
        "MD on the models looks for what they do not know.",
        key("num_trajectories"),
        key("max_MD_steps", "of each trajectory"),
        Key("skip_step_mlff", 20, "MD steps between two looks"),
        *_drives(plan),
        key("max_epochs_worker", "of training after a new label"),
        "Labels against which uncertainties are compared, and tables in analysis/.",
        Key("analysis", True),
        key("sanity_skip", "MD steps from one to the next"),
        "Training at the end.",
        Key("converge_best", False, "all models, not only the best"),
        key("max_final_epochs"),
        key("patience", "epochs without improvement that end it"),
    ]


def _drives(plan: Plan) -> list[Key]:
    """One model is enough between two looks, and several take several times as long."""
    if plan.goal == "production" or not plan.has_many_atoms:
        return []
    return [Key("md_forces", "member", "one model drives, all are asked at a look")]


def _md(plan: Plan) -> list[Key | str]:
    temperatures: object = [_plain(each) for each in plan.temperatures]
    if len(plan.temperatures) == 1:
        temperatures = _plain(plan.temperatures[0])
    return [
        Key("temperature", temperatures, "K; a list is a ladder: [300, 600, 900]"),
        Key("timestep", plan.start.timestep, f"fs, for {plan.start.formula}"),
        Key("friction", 0.01, "1/fs, of the Langevin thermostat"),
    ]


def _plain(temperature: float) -> float | int:
    return int(temperature) if temperature == int(temperature) else temperature


def mace_text(plan: Plan) -> str:
    """``mace_settings.yaml``."""
    quick = plan.goal == "quick"
    sections: dict[str, Lines] = {
        "GENERAL": [
            Key("name_exp", _name(plan.start.formula), "files of models start with it"),
            Key("default_dtype", "float32" if quick else "float64"),
            *_stress(plan),
            Key("seed", 1),
        ]
    }
    if plan.foundation:
        sections["ARCHITECTURE"] = [
            "The network is that of the foundation model.",
            Key("foundation_model", plan.foundation),
        ]
        sections["TRAINING"] = [
            Key("fine_tuning", "naive", "also: frozen, lora, replay"),
            *_batches(plan),
            *_loss(plan),
        ]
    else:
        sections["ARCHITECTURE"] = _architecture(plan)
        sections["TRAINING"] = [
            *_batches(plan),
            Key("lr", 0.02 if quick else 0.01),
            *_loss(plan),
        ]
    sections["MISC"] = [Key("device", plan.device, "cuda where rank 0 has a GPU")]
    head = [schema_line("mace"), plan.title, "Names and defaults of most keys are MACE's own."]
    return commented_yaml(head, sections)


def _stress(plan: Plan) -> list[Key]:
    if not plan.stress:
        return []
    comment = "labels have one, which volumes and pressure need; false: fixed cells only"
    return [Key("compute_stress", True, comment)]


def _batches(plan: Plan) -> list[Key]:
    return [Key("batch_size", plan.batch_size), Key("valid_batch_size", 4 * plan.batch_size)]


def _loss(plan: Plan) -> list[Key]:
    """What errors count; without stress a foundation model's own weights do."""
    weights = [Key("energy_weight", 100.0), Key("forces_weight", 1000.0)]
    if not plan.stress:
        return [] if plan.foundation else weights
    loss = Key("loss", "stress", "squared errors of energies, forces and stress; weighted: without")
    return [loss, *weights, Key("stress_weight", STRESS_WEIGHT, "1 GPa counts as 0.02 eV/A")]


def _architecture(plan: Plan) -> list[Key | str]:
    comments = {"r_max": "A, cutoff"}
    network = [Key(name, value, comments.get(name, "")) for name, value in plan.network.items()]
    return [
        "Energies of the isolated atoms, which FHI_AL-atomic-energies computes, belong here if",
        "molecules are to come apart or other compositions follow:  atomic_energies: {H: ...}",
        Key("model", "ScaleShiftMACE"),
        *network,
    ]


def _name(formula: str) -> str:
    """A formula as a plain name."""
    return formula[:40]
