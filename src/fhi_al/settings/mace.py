"""The keys of mace_settings.yaml: meaning, unit, default and bounds in one place.

Names and defaults are MACE's own where MACE has the key; a test compares them with the installed
MACE.  Does not import MACE: a rank that only labels reads settings too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    WithJsonSchema,
)

from fhi_al.settings.architecture import Architecture, ModelArchitecture
from fhi_al.settings.fine_tuning import FineTuning
from fhi_al.settings.mace_choices import (
    ERROR_TABLES_REFUSED,
    LOSSES_REFUSED,
    OPTIMIZERS_REFUSED,
    STRESS_LOSSES,
    ErrorTableName,
    LossName,
)
from fhi_al.settings.mace_values import read_device, read_off, read_weights
from fhi_al.settings.value_types import (
    LARGEST_SEED,
    Boolean,
    BooleanOrAuto,
    Choice,
    FilePath,
    Integer,
    Number,
    OptionalInteger,
    OptionalNumber,
    PlainName,
    Section,
    setting,
)


class General(Section):
    """Names, folders, precision."""

    name_exp: PlainName = setting("fhi_al", "Name of the run; the model files start with it.")
    log_dir: FilePath = setting(Path("logs"), "Folder of MACE's own training logs.")
    checkpoints_dir: FilePath = setting(
        Path("checkpoints"), "Folder of the training checkpoints, one per member."
    )
    results_dir: FilePath = setting(
        Path("results"), "Folder of losses and errors over time, per member."
    )
    model_dir: FilePath = setting(Path("model"), "Folder of the final models.")
    default_dtype: Annotated[Literal["float32", "float64"], Choice()] = setting(
        "float64", "Precision of the models in training and MD."
    )
    compute_stress: Boolean = setting(
        False,
        "Labels have a stress, too, of which errors are reported and which `TRAINING.loss` may"
        " train on; periodic systems only, and engines that have one.",
    )
    seed: Integer = setting(
        123, "Seed of the ensemble; every member derives its own.", ge=0, le=LARGEST_SEED
    )


class Training(FineTuning):
    """Optimizer, loss, batches."""

    valid_fraction: Number = setting(
        0.1, "Superseded by ACTIVE_LEARNING.valid_ratio.", ge=0, lt=1, try_=0.1
    )
    batch_size: Integer = setting(5, "Structures per training step.", ge=1)
    valid_batch_size: Integer = setting(10, "Structures per validation batch.", ge=1)
    weight_decay: Number = setting(5e-7, "Weight decay (L2 penalty).", ge=0)
    scaling: Annotated[Literal["std_scaling", "rms_forces_scaling", "no_scaling"], Choice()] = (
        setting("rms_forces_scaling", "What the model's output is scaled by.")
    )
    lr: Number = setting(
        0.01,
        "Learning rate at the start. From a foundation model 0.005 by default.",
        gt=0,
        le=1,
        try_=0.01,
    )
    amsgrad: Boolean = setting(True, "AMSGrad variant of the optimizer.")
    optimizer: Annotated[Literal["adam", "adamw"], Choice(OPTIMIZERS_REFUSED)] = setting(
        "adam", "Optimizer."
    )
    scheduler: Annotated[Literal["ReduceLROnPlateau", "ExponentialLR"], Choice()] = setting(
        "ReduceLROnPlateau",
        "Learning-rate scheduler of convergence and, with `ACTIVE_LEARNING.scheduler_initial`, of"
        " the initial dataset; active learning runs without.",
    )
    lr_scheduler_gamma: Number = setting(
        0.9993, "Factor on the learning rate per epoch, with ExponentialLR.", gt=0, le=1
    )
    lr_factor: Number = setting(
        0.8,
        "Factor on the learning rate each time the error stops falling, with ReduceLROnPlateau.",
        gt=0,
        lt=1,
    )
    scheduler_patience: Integer = setting(
        5,
        "Epochs without improvement before the learning rate is multiplied by `lr_factor`, with"
        " ReduceLROnPlateau. MACE's own default, 50, is for fits of thousands of epochs; here a"
        " convergence ends after `ACTIVE_LEARNING.patience` = 50 such epochs, before the rate could"
        " fall.",
        ge=0,
        try_=5,
    )
    swa: Boolean = setting(
        False,
        "Second stage of a convergence, which trains energies: other weights in the loss and a"
        " constant learning rate, from the best weights of the first stage.",
    )
    start_swa: OptionalInteger = setting(
        None,
        "Epoch of a convergence at which the second stage begins, with `swa`; earlier if the first"
        " has stopped improving (`ACTIVE_LEARNING.patience`).",
        ge=1,
        shown_default="three quarters of `max_final_epochs`",
    )
    swa_lr: Number = setting(
        1e-3, "Learning rate of the second stage, which is constant.", gt=0, le=1, try_=1e-3
    )
    swa_energy_weight: Number = setting(
        1000.0, "Weight of the energy per atom in the loss of the second stage.", ge=0
    )
    swa_forces_weight: Number = setting(
        100.0, "Weight of the forces in the loss of the second stage.", ge=0
    )
    swa_stress_weight: Number = setting(
        10.0, "Weight of the stress in the loss of the second stage.", ge=0
    )
    swa_virials_weight: Number = setting(
        10.0, "Weight of the virials in the loss of the second stage.", ge=0
    )
    ema: Boolean = setting(
        True, "Exponential moving average of the weights, for validation, MD and saved models."
    )
    ema_decay: Number = setting(0.99, "Decay of that average per step.", gt=0, lt=1, try_=0.99)
    max_num_epochs: Integer = setting(
        2048,
        "Superseded by ACTIVE_LEARNING.max_initial_epochs, max_epochs_worker, max_final_epochs.",
        ge=1,
    )
    loss: Annotated[LossName, Choice(LOSSES_REFUSED)] = setting(
        "weighted",
        "Loss function: squared errors (`weighted`), those of forces only, or absolute; with"
        " `compute_stress` also squared errors with those of the `stress` (eV/A^3) or of the"
        " `virials` (eV per atom), or Huber's with the stress (`huber`, `universal`). Labels"
        " without a stress have weight zero there.",
    )
    energy_weight: Number = setting(1.0, "Weight of the energy per atom in the loss.", ge=0)
    forces_weight: Number = setting(100.0, "Weight of the forces in the loss.", ge=0)
    fit_atomic_energies: Boolean = setting(
        True,
        "Before every validation the constant part of the energies' errors is taken out of the"
        " model, by least squares on its training set; forces are not touched. One constant for"
        " each element, added to its E0; the same one for all elements where"
        " `ARCHITECTURE.atomic_energies` are given.",
    )
    virials_weight: Number = setting(
        1.0, "Weight of the virials per atom in the loss, with `loss: virials`.", ge=0
    )
    stress_weight: Number = setting(
        1.0, "Weight of the stress in the loss, with `loss: stress`, `huber` or `universal`.", ge=0
    )
    huber_delta: Number = setting(
        0.01,
        "Error (eV, eV/A, eV/A^3) from which on the losses `huber` and `universal` are linear.",
        gt=0,
        try_=0.01,
    )
    config_type_weights: Annotated[dict[str, float], BeforeValidator(read_weights)] = setting(
        lambda: {"Default": 1.0},
        "Weight of a structure by its origin: `initial` (initial dataset), `active_learning`, a"
        " `config_type` of your own data, `Default` (all others).",
        shown_default="{Default: 1.0}",
    )
    patience: Integer = setting(2048, "Superseded by ACTIVE_LEARNING.patience.", ge=1)
    clip_grad: OptionalNumber = setting(
        10.0, "Largest norm of the gradient; `None`: no limit.", gt=0, try_=10.0
    )
    eval_interval: Integer = setting(1, "Superseded by ACTIVE_LEARNING.valid_skip.", ge=1)

    def second_stage_start(self, max_epochs: int) -> int | None:
        """Epoch of a convergence of so many at which the second stage begins; None without one."""
        if not self.swa:
            return None
        # MACE's own rule.
        return self.start_swa or max(1, max_epochs // 4 * 3)

    @property
    def has_stress_loss(self) -> bool:
        """Whether the loss has a term for the stress or the virials."""
        return self.loss in STRESS_LOSSES

    @property
    def energies_improve(self) -> bool:
        """Whether a convergence makes energy errors smaller."""
        if self.fit_atomic_energies:
            return True
        if self.loss == "forces_only":
            return False
        return self.energy_weight > 0 or (self.swa and self.swa_energy_weight > 0)


class Misc(Section):
    """Device, logging, checkpoints."""

    device: Annotated[
        str,
        BeforeValidator(read_device),
        WithJsonSchema({"type": "string", "pattern": r"^(cpu|cuda(:\d+)?|mps|xpu)$"}),
    ] = setting("cpu", "Where models are trained and run: cpu, cuda, cuda:N, mps, xpu.")
    keep_checkpoints: Boolean = setting(
        False, "Keep every training checkpoint, not the last one only."
    )
    restart_latest: Boolean = setting(
        False, "Superseded: a run always continues from `restart/` if there is one."
    )
    error_table: Annotated[ErrorTableName, Choice(ERROR_TABLES_REFUSED)] = setting(
        "PerAtomRMSE", "Errors shown in the logs, those of the stress with `...stressvirials`."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Choice()] = (
        setting("INFO", "Least important messages that are logged.")
    )
    compile_final: Boolean = setting(
        False, "Also write the final models compiled, as `NAME_SEED_compiled.model`."
    )
    enable_cueq: BooleanOrAuto = setting(
        "auto",
        "Train and run MD with NVIDIA's cuEquivariance: `true` wherever it gives the same numbers,"
        " `auto` where it is faster, too (on NVIDIA's GPUs if it is installed); the saved models"
        " are ordinary ones.",
    )
    cuda_graphs: Annotated[
        Literal["auto", "off"],
        Choice(),
        BeforeValidator(read_off),
        # YAML 1.1 takes off for false.
        WithJsonSchema({"enum": ["auto", "off", False]}),
    ] = setting(
        "auto",
        "On GPUs, record training steps and forces once for each size of a batch and replay them;"
        " `auto` falls back to the plain way where that fails, `off` never tries.",
    )
    num_threads: OptionalInteger = setting(
        None,
        "Threads of training and MD on each rank that trains.",
        ge=1,
        shown_default="OMP_NUM_THREADS, else 1; with parallel at most 4, by the layout",
    )


def _architecture(value: object) -> object:
    """Plain values are those of MACE."""
    return Architecture.model_validate(value) if isinstance(value, dict) else value


class MaceSettings(BaseModel):
    """mace_settings.yaml.

    ``backend`` is the name of the kind of the models, for which ARCHITECTURE is, and
    ``backend_class`` the import path of its class; no keys of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    general: General = Field(default_factory=General, alias="GENERAL")
    architecture: Annotated[SerializeAsAny[ModelArchitecture], BeforeValidator(_architecture)] = (
        Field(default_factory=Architecture, alias="ARCHITECTURE")
    )
    training: Training = Field(default_factory=Training, alias="TRAINING")
    misc: Misc = Field(default_factory=Misc, alias="MISC")
    backend: str = "mace"
    backend_class: str = "fhi_al.models.mace.backend:MaceBackend"
