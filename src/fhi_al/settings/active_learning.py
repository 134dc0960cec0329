"""The keys of active_learning_settings.yaml except MD: meaning, unit, default and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fhi_al.settings.active_learning_misc import ActiveLearningMisc as ActiveLearningMisc
from fhi_al.settings.cluster import OptionalCluster
from fhi_al.settings.displaced import DisplacedKeys, DisplacedStructures
from fhi_al.settings.engine_names import EngineName
from fhi_al.settings.initial_data import OptionalInitialData
from fhi_al.settings.md import MolecularDynamics
from fhi_al.settings.systems import System
from fhi_al.settings.value_types import (
    Arguments,
    Boolean,
    Choice,
    Choices,
    CountOrAuto,
    CountOrNoneOrAuto,
    FilePath,
    Integer,
    Number,
    OptionalImportPath,
    OptionalInteger,
    OptionalNumber,
    OptionalPath,
    PositiveOrAutoOrNone,
    Section,
    setting,
)

Source = Literal["mace-mp0", "aimd", "foundation", "displaced", "none"]


class ActiveLearning(Section):
    """How much is sampled, trained and labelled, and when it is enough."""

    desired_acc: Number = setting(
        0.0,
        "Target force MAE on validation; active learning stops below it. 0: no such stop.",
        unit="eV/A",
        ge=0,
        try_=0.05,
    )
    stop_on: Annotated[Literal["mean", "worst"], Choice()] = setting(
        "mean",
        "With several `SYSTEMS`: what `desired_acc` and `lambda` x `desired_acc` are compared with,"
        " the error over all points, or that of the `worst` system.",
    )
    lambda_: Number = setting(
        10.0,
        "The initial dataset is good enough at `lambda` x `desired_acc`.",
        alias="lambda",
        gt=0,
        try_=10.0,
    )
    n_samples: Integer = setting(
        10,
        "Points per member and sampling round, initial dataset; of all systems. From a foundation"
        " model 2 by default.",
        ge=2,
    )
    valid_ratio: Number = setting(
        0.1, "Share of the points that goes to validation.", gt=0, lt=1, try_=0.1
    )
    initial_sets: Annotated[Literal["own", "shared", "bootstrap"], Choice()] = setting(
        "shared",
        "`shared`: every member trains on all points, those of active learning included, except a"
        " fold of its own that it validates on (`valid_ratio`). `bootstrap`: the same, but on a"
        " sample of its own in which points are missing or repeated. `own`: each member has its own"
        " points of the initial dataset, and all validate on the same points of active learning.",
    )
    final_sets: Annotated[Literal["own", "all"], Choice()] = setting(
        "all",
        "What members train on in the final convergence: their `own` sets as they are, or `all`"
        " labels that were computed, but those they validate on and those held out for the test."
        " Of the steps of *ab initio* MD the most different ones.",
    )
    converge_initial: Boolean = setting(False, "Converge the training on the initial dataset.")
    converge_al: Boolean = setting(True, "Converge the training on the final dataset.")
    converge_best: Boolean = setting(
        True,
        "Converge only the best member, not all: the one with the lowest force MAE on the"
        " validation points of all members that none has trained on.",
    )
    converge_from: Annotated[Literal["current", "fresh"], Choice()] = setting(
        "current",
        "What the final convergence starts from: the `current` weights, or `fresh` ones, trained on"
        " all labels with normalisation constants of their own; a member that is no better then"
        " keeps its weights from before.",
    )
    scheduler_initial: Boolean = setting(
        True,
        "Use the learning-rate scheduler (`TRAINING.scheduler`) while the initial dataset grows.",
    )
    max_initial_epochs: Integer = setting(1000, "Most epochs of the initial phase.", ge=1)
    max_epochs_worker: Integer = setting(
        20,
        "Epochs a trajectory stays in training after a new point; also the epochs without"
        " improvement after which a member gets a fresh optimizer.",
        ge=1,
    )
    max_final_epochs: Integer = setting(500, "Most epochs of a convergence.", ge=1)
    intermediate_epochs: Integer = setting(
        5, "Epochs per training round of a trajectory in training.", ge=1
    )
    intermediate_gain: OptionalNumber = setting(
        0.1,
        "Initial dataset: as long as `intermediate_epochs` lower the validation force MAE by more"
        " than this share, they are repeated before new points are paid for, and before active"
        " learning begins; `None`: new points every time. In parallel mode, where points are"
        " labelled meanwhile, only on `initial_data` and before active learning begins.",
        gt=0,
        lt=1,
        try_=0.1,
    )
    patience: Integer = setting(
        50, "Epochs without improvement that end a convergence.", ge=1, try_=50
    )
    margin: Number = setting(
        0.0, "Smallest drop of the validation force MAE that is an improvement.", unit="eV/A", ge=0
    )
    max_MD_steps: OptionalInteger = setting(  # noqa: N815
        None, "MD steps after which a trajectory is done.", ge=1, shown_default="no limit"
    )
    max_set_size: OptionalInteger = setting(
        None,
        "Active learning stops when a member has this many training points. Of an initial dataset"
        " that all share (`initial_sets`) its part counts, 1/`ensemble_size`.",
        ge=1,
        shown_default="no limit",
    )
    label_budget: OptionalInteger = setting(
        None,
        "Reference calculations after which no more are asked for; the final convergence makes the"
        " best of them. The initial dataset gets `initial_share` of them, active learning the"
        " rest.",
        ge=4,
        shown_default="no limit",
        try_=60,
    )
    initial_share: Number = setting(
        0.5,
        "With `label_budget`: its share for the initial dataset, whose first round is taken in any"
        " case.",
        gt=0,
        lt=1,
        try_=0.5,
    )
    valid_skip: Integer = setting(1, "Epochs between validations.", ge=1)
    sanity_skip: Integer = setting(
        100,
        "MD steps between sanity checks, each a reference calculation, with `analysis`.",
        ge=1,
    )
    ensemble_size: Integer = setting(4, "Members of the ensemble.", ge=2)
    c_x: Number = setting(
        0.0,
        "The threshold is the moving average (or quantile) of the uncertainty x (1 - `c_x`):"
        " above 0 asks for more labels, below 0 for fewer.",
        lt=1,
        try_=0.2,
    )
    dataset_dir: FilePath = setting(Path("data"), "Folder of the datasets.")
    skip_step_initial: Integer = setting(
        25, "MD steps between two samples of the initial dataset.", ge=1
    )
    skip_step_mlff: Integer = setting(25, "MD steps between two uncertainty checks.", ge=1)
    num_trajectories: Integer = setting(4, "MD trajectories that look for new points.", ge=1)
    species_dir: OptionalPath = setting(
        None,
        "Folder of the FHI-aims species defaults. Required with `reference_engine: aims` for"
        " species that have no block in `control.in`.",
    )
    aims_lib_path: OptionalPath = setting(
        None,
        "FHI-aims as a shared library (not the executable). Required with"
        " `reference_engine: aims` unless there is a `cluster`.",
        shown_default="required with aims",
    )
    analysis: Boolean = setting(
        False, "Sanity checks, and losses, uncertainties and thresholds over time in `analysis/`."
    )
    initial_data: OptionalInitialData = setting(
        None,
        "Files of labelled structures (extended xyz, or anything else ASE reads) that the initial"
        " dataset begins with: a path, a pattern such as `old/*.xyz`, or a list. Instead of a path"
        " also `{file: PATH, energy: NAME, forces: NAME, stress: NAME, valid_ratio: 0.1,"
        " test_ratio: 0}`: names under which they are stored (else `REF_energy`, ... or `energy`,"
        " ...), shares of these points that are validated on (0 to 0.5, or 1) and held out. More"
        " points are sampled where they are not enough, by `FHI_AL-al` none. See"
        " `docs/how_to/data.md`.",
    )
    initial_sampling: Annotated[Source | tuple[Source, ...], Choices()] = setting(
        "mace-mp0",
        "Where the structures of the initial dataset come from: MD on the foundation model"
        " MACE-MP-0, on the reference engine (`aimd`), or on your own `foundation_model` or"
        " `foundation_calculator`; or no MD (`displaced`). A list of them, such as `[displaced,"
        " foundation]`, mixes them in equal shares. `none`: no initial dataset; active learning"
        " begins with `ARCHITECTURE.foundation_model`.",
    )
    displaced: DisplacedKeys = setting(
        DisplacedStructures,
        "With `initial_sampling: displaced`, the numbers of displaced structures; the keys below it"
        " follow.",
        shown_default="as below",
    )
    initial_foundational_size: Annotated[Literal["small", "medium", "large"], Choice()] = setting(
        "small", "Size of MACE-MP-0."
    )
    parallel: Boolean = setting(
        False,
        "Overlap reference calculations, training and MD: ranks that neither drive nor train"
        " compute labels in the background.",
    )
    # Keys of ours, none of which changes what a file without them does.
    reference_engine: Annotated[str, EngineName()] = setting(
        "aims",
        "What computes the labels: FHI-aims (`aims`), xTB (`tblite`), any ASE calculator (`ase`),"
        " or the name of an engine that an installed package brings.",
    )
    model_backend: str = setting(
        "mace",
        "Kind of the models: MACE, or the name of a kind that an installed package brings, or the"
        " import path of one's class (`package.module:Class`); the section ARCHITECTURE of"
        " `mace_settings.yaml` is that of the kind.",
    )
    reference_groups: OptionalInteger = setting(
        None,
        "Groups of ranks that compute labels at the same time, with `parallel`, each with an engine"
        " of its own. A process of FHI-aims can compute one system: with several, each group is"
        " tied to one, and every system needs a group.",
        ge=1,
        shown_default="1 for FHI-aims, of each system; else one per rank",
    )
    training_ranks: CountOrAuto = setting(
        "auto",
        "Ranks that the members are distributed over, which train at the same time and compute the"
        " forces of MD: at least 1, or `auto` for those that would do nothing otherwise, one per"
        " member, core and GPU at most; with `parallel` a quarter of all, or fewer where groups"
        " need the ranks, or, with `reference_groups` of one rank each, all that none needs.",
        try_="auto",
    )
    train_while_waiting: Boolean = setting(
        True,
        "With `parallel`: when all trajectories wait for labels, train on with the data at hand as"
        " long as the validation error falls.",
    )
    rescore_queue: Boolean = setting(
        True,
        "With `parallel`: take points back from the queue that the ensemble has learnt meanwhile.",
    )
    reference_method: Annotated[Literal["GFN2-xTB", "GFN1-xTB"], Choice()] = setting(
        "GFN2-xTB", "Method of the tblite engine."
    )
    reference_calculator: OptionalImportPath = setting(
        None,
        "Import path of the ASE calculator, with `reference_engine: ase`, such as"
        " `ase.calculators.emt.EMT` (or `ase.calculators.emt:EMT`, which means the same).",
    )
    reference_arguments: Arguments = setting(
        dict,
        "Keyword arguments of the tblite or ASE calculator, or the keys of a package's engine.",
        shown_default="{}",
    )
    reuse_calculator: Boolean = setting(
        False,
        "Compute all labels with one ASE calculator instead of making a new one for each: for"
        " those that take long to make and keep nothing of a geometry, such as machine-learned"
        " potentials.",
    )
    cluster: OptionalCluster = setting(
        None,
        "Compute labels as jobs of their own, with `parallel: true`; the keys below it follow.",
    )
    scf_warm_start: Boolean = setting(
        False,
        "Start an SCF from the density before it (tblite, ASE). Labels then depend on their order.",
    )
    foundation_model: OptionalPath = setting(
        None, "A MACE model file, with `initial_sampling: foundation`."
    )
    foundation_calculator: OptionalImportPath = setting(
        None, "Import path of an ASE calculator, with `initial_sampling: foundation`."
    )
    foundation_arguments: Arguments = setting(
        dict, "Keyword arguments of `foundation_calculator`.", shown_default="{}"
    )
    md_forces: Annotated[Literal["mean", "member"], Choice()] = setting(
        "mean",
        "MD runs on the ensemble's mean forces, or on those of one member, which hands over to"
        " the next at every check.",
    )
    md_dtype: Annotated[Literal["training", "float32", "float64"], Choice()] = setting(
        "training",
        "Precision of the ensemble's forces in MD and at checks: as in training"
        " (`GENERAL.default_dtype`), or another. Errors that are reported are always those of the"
        " models as they are trained.",
    )
    uncertainty_type: Annotated[
        Literal["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"], Choice()
    ] = setting("max_atomic_sd", "How the spread of the members' forces becomes one number.")
    stress_threshold: OptionalNumber = setting(
        None,
        "A structure gets a label also if the spread of the members' stress exceeds this, whatever"
        " the forces say; with `compute_stress`.",
        unit="eV/A^3",
        gt=0,
        try_=0.005,
        shown_default="forces alone decide",
    )
    threshold_warmup: Integer = setting(
        10, "Uncertainties seen before the threshold first triggers.", ge=1, try_=10
    )
    threshold_window: Integer = setting(
        400, "Uncertainties the moving average or quantile goes over.", ge=1, try_=400
    )
    threshold_type: Annotated[Literal["moving_average", "quantile"], Choice()] = setting(
        "moving_average",
        "What the threshold is (1 - `c_x`) times of: the mean of the last `threshold_window`"
        " uncertainties, or their `threshold_quantile`.",
    )
    threshold_quantile: Number = setting(
        0.95,
        "With `threshold_type: quantile`: the share of the last `threshold_window` uncertainties"
        " that does not cross, if `c_x` is 0.",
        gt=0,
        lt=1,
        try_=0.95,
    )
    max_threshold: OptionalNumber = setting(
        0.5,
        "The average or quantile in the threshold is capped at this share of the root mean square"
        " of the initial dataset's forces; during the warm-up the cap takes its place. Models that"
        " disagree by more know nothing of a structure, and their MD would go on to where there is"
        " nothing to learn. `None`: no cap.",
        gt=0,
        try_=0.5,
    )
    calibrate: Boolean = setting(
        False,
        "Compare scale x uncertainty with `calibrated_threshold`, once the scale is known from"
        " sanity checks; `c_x` and `threshold_type` rule until then. Needs `analysis`.",
    )
    calibrated_threshold: OptionalNumber = setting(
        None,
        "With `calibrate`: true error above which a structure gets a label, reduced as the"
        " uncertainty is (`uncertainty_type`).",
        unit="eV/A",
        gt=0,
        try_=0.15,
        shown_default="3 x `desired_acc` for `max_atomic_sd`, 1.5 x for the others",
    )
    calibration_warmup: Integer = setting(
        20, "With `calibrate`: sanity checks before the scale is used.", ge=10, try_=20
    )
    calibration_window: Integer = setting(
        200, "Sanity checks that the scale is estimated from: the last ones.", ge=10, try_=200
    )
    candidate_order: Annotated[Literal["farthest", "index"], Choice()] = setting(
        "farthest",
        "Of several structures that ask for a label, the one that differs most from stored points"
        " and from those before it comes first; or they come in the order of their trajectories.",
    )
    duplicate_distance: Number = setting(
        0.1,
        "A structure that differs from a stored point by no more than this, in units of the"
        " scatter of stored points in MACE's descriptors, gets no label. 0: all get one.",
        ge=0,
        try_=0.1,
    )
    test_ratio: Number = setting(
        0.0,
        "Share of the points that is never trained on, validated on or selected by, and on which"
        " errors are reported at the end.",
        ge=0,
        lt=1,
        try_=0.1,
    )
    final_test: CountOrNoneOrAuto = setting(
        "auto",
        "Labels of structures that the finished models come to in MD of their own (canonical, at"
        " the temperatures of `MD`), for their true error: nothing is trained on them or decided by"
        " them."
        " `auto`: one for each ten computed before, at most 10 for each system. 0: no"
        " such test. Part of"
        " `label_budget`.",
        try_="auto",
    )
    sanity_action: Annotated[Literal["record", "add", "add_all"], Choice()] = setting(
        "add_all",
        "Which sanity checks join the sets like other points: none (`record`), those whose true"
        " error is over the moving average of true errors (`add`), or all: they are paid for.",
    )
    max_label_failures: Integer = setting(10, "Discarded labels in a row that stop the run.", ge=1)
    max_force: Number = setting(
        300.0, "A label with a larger force is discarded.", unit="eV/A", gt=0, try_=300.0
    )
    max_energy_per_atom: Number = setting(
        50.0,
        "A label whose energy per atom is farther than this from the E0s is discarded; without"
        " `atomic_energies`, farther from the mean of the labels so far.",
        unit="eV",
        gt=0,
        try_=50.0,
    )
    max_stress: Number = setting(
        10.0,
        "A label with a larger component of the stress is discarded, with `compute_stress`; 1"
        " eV/A^3 are 160 GPa.",
        unit="eV/A^3",
        gt=0,
        try_=10.0,
    )
    max_excess_energy: PositiveOrAutoOrNone = setting(
        "auto",
        "A label whose energy per atom is more than this above the mean of the initial dataset is"
        " trained on, but its trajectory goes back to its last good point, for MD would stay where"
        " there is nothing to learn. `auto`: mean plus 8 standard deviations of harmonic vibrations"
        " at the trajectory's temperature (the highest of its schedule). `None`: no limit.",
        unit="eV",
        try_=0.5,
    )
    max_rollbacks: Integer = setting(
        10,
        "Returns of a trajectory to the same good point after which it is retired.",
        ge=1,
        try_=10,
    )
    max_training_failures: Integer = setting(
        3,
        "Training rounds in a row that diverge, after which a member counts as diverged; fewer than"
        " two others stop the run.",
        ge=1,
        try_=3,
    )
    min_distance: Number = setting(
        0.4,
        "Two atoms overlap below this fraction of the sum of their covalent radii.",
        gt=0,
        lt=1,
        try_=0.4,
    )
    max_distance: Number = setting(
        8.0,
        "An atom of a molecule farther than this from all others has flown apart.",
        unit="A",
        gt=0,
        try_=8.0,
    )

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the structures of the initial dataset come from, one or several."""
        chosen = self.initial_sampling
        return chosen if isinstance(chosen, tuple) else (chosen,)

    @property
    def calls_per_point(self) -> float:
        """Reference calculations for a point of the initial dataset, in the mean."""
        each = [self.skip_step_initial if source == "aimd" else 1 for source in self.sources]
        return sum(each) / len(each)


class ActiveLearningSettings(BaseModel):
    """active_learning_settings.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    active_learning: ActiveLearning = Field(default_factory=ActiveLearning, alias="ACTIVE_LEARNING")
    systems: tuple[System, ...] = Field(default=(System(),), alias="SYSTEMS")
    md: tuple[MolecularDynamics, ...] = Field(default=(MolecularDynamics(),), alias="MD")
    misc: ActiveLearningMisc = Field(default_factory=ActiveLearningMisc, alias="MISC")
