"""The keys of active_learning_settings.yaml under MISC: meaning, unit, default and bounds."""

from __future__ import annotations

from fhi_al.settings.value_types import Boolean, Number, OptionalNumber, Section, setting


class ActiveLearningMisc(Section):
    """Snapshots."""

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
