"""The keys of active_learning_settings.yaml under MISC: meaning, unit, default and bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from fhi_al.settings.value_types import (
    Boolean,
    BooleanOrSnapshots,
    Choice,
    Number,
    OptionalNumber,
    Section,
    setting,
)


class ActiveLearningMisc(Section):
    """Snapshots, the report, curves."""

    create_restart: Boolean = setting(
        True, "Write snapshots to `restart/`. Labels are stored as they come in any case."
    )
    snapshot_interval: Number = setting(60.0, "Time between snapshots.", unit="s", ge=0)
    walltime_limit: OptionalNumber = setting(
        None,
        "Stop softly after this time: finish the step, write a snapshot, exit with code 3.",
        unit="s",
        gt=0,
        shown_default="no limit",
    )
    report: BooleanOrSnapshots = setting(
        True,
        "Keep a record of who does what when in `report/`, and when a command has done its work,"
        " write what came out as one HTML file with figures, `report/report.html`. `snapshots`:"
        " also after a snapshot, as often as costs less than 1 % of the time. `FHI_AL-report`"
        " writes it at any time.",
    )
    logger: Annotated[Literal["none", "tensorboard", "wandb"], Choice()] = setting(
        "none",
        "Also write losses, errors, uncertainties and thresholds for TensorBoard (`tensorboard/`,"
        " `pip install 'fhi-al[tensorboard]'`) or Weights & Biases (`wandb/`, offline unless the"
        " environment has WANDB_MODE; `pip install 'fhi-al[wandb]'`).",
    )
