"""From settings to the options of the loop's parts.  Imports no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from ase import units

from fhi_al.active_learning.options import (
    ActiveLearningOptions,
    CalibrationOptions,
    ConvergenceOptions,
    Criterion,
    InitialDatasetOptions,
    LabellingOptions,
    LoopOptions,
    SamplingOptions,
    SplitOptions,
    SweepOptions,
)
from fhi_al.core.calibration import default_limit
from fhi_al.core.final_test import n_test_labels
from fhi_al.core.schedule import quantity_of, scaled
from fhi_al.core.stopping import StopRules
from fhi_al.core.threshold import ThresholdRule
from fhi_al.core.trajectory import Limits
from fhi_al.core.uncertainty import MEASURES, Measure
from fhi_al.md.conditions import MDConditions
from fhi_al.settings import ActiveLearning, Settings
from fhi_al.settings.md_blocks import md_blocks


def loop_options(settings: Settings, folder: Path, measure: Measure | None = None) -> LoopOptions:
    """What the two procedures go by.

    Parameters
    ----------
    settings : Settings
        With those of the models.
    folder : Path
        The run's folder.
    measure : callable, optional
        An uncertainty measure in place of the one that the settings name.
    """
    al, mace = settings.al, settings.mace
    assert mace is not None
    return LoopOptions(
        initial=_initial(al),
        active_learning=_active_learning(settings, folder, measure),
        convergence=ConvergenceOptions(
            patience=al.patience,
            max_epochs=al.max_final_epochs,
            margin=al.margin,
            epochs_per_round=al.valid_skip,
            second_stage_start=mace.training.second_stage_start(al.max_final_epochs),
            with_energies=mace.training.energies_improve,
            with_stress=mace.training.has_stress_loss,
        ),
        split=split_options(al),
    )


def split_options(al: ActiveLearning) -> SplitOptions:
    """Where points go."""
    return SplitOptions(
        valid_ratio=al.valid_ratio,
        shared=al.initial_sets != "own",
        bootstrap=al.initial_sets == "bootstrap",
        test_ratio=al.test_ratio,
        # What is left of them is otherwise what the ensemble knew.
        sanity_checks_are_unbiased=al.sanity_action == "record",
    )


def md_conditions(settings: Settings, own_integrator: Any = None) -> list[MDConditions]:
    """The conditions of each MD block, and an integrator in place of those of the thermostats."""
    return [
        MDConditions(
            thermostat=None if md.stat_ensemble == "NVE" else md.thermostat,
            temperature=quantity_of(md.temperature),
            timestep=md.timestep,
            friction=md.friction,
            thermostat_time=md.thermostat_time,
            andersen_prob=md.andersen_prob,
            seed=md.seed,
            own_integrator=own_integrator,
            barostat=md.barostat if md.stat_ensemble == "NPT" else None,
            pressure=scaled(quantity_of(md.pressure or 0.0), units.GPa),
            barostat_time=md.barostat_time or 1000.0,
            compressibility=md.compressibility / units.GPa,
            name=block.name,
        )
        for block in md_blocks(settings.md)
        for md in [block.settings]
    ]


def criterion(
    al: ActiveLearning, measure: Measure | None = None, with_stress: bool = False
) -> Criterion:
    """When a structure needs a label."""
    calibration = None
    if al.analysis:
        calibration = CalibrationOptions(
            error_limit=_error_limit(al) if al.calibrate else None,
            warmup=al.calibration_warmup,
            window=al.calibration_window,
        )
    # A measure of the user's own may have another unit than forces.
    bound = al.max_threshold if measure is None else None
    rule = ThresholdRule(
        al.c_x,
        al.threshold_warmup,
        al.threshold_window,
        al.threshold_type,
        al.threshold_quantile,
        math.inf if bound is None else bound,
    )
    return Criterion(
        measure or MEASURES[al.uncertainty_type],
        rule,
        calibration,
        with_stress,
        al.stress_threshold,
    )


def _error_limit(al: ActiveLearning) -> float:
    if al.calibrated_threshold is not None:
        return al.calibrated_threshold
    return default_limit(al.uncertainty_type, al.desired_acc)


def _initial(al: ActiveLearning) -> InitialDatasetOptions:
    return InitialDatasetOptions(
        sampling=SamplingOptions(
            sources=al.sources,
            labelled_at_once=frozenset(["aimd"] if al.parallel else al.sources),
            skip_step=al.skip_step_initial,
            max_rollbacks_in_row=al.max_rollbacks,
        ),
        points_per_member=al.n_samples,
        target=al.lambda_ * al.desired_acc,
        epochs_per_round=al.intermediate_epochs,
        max_epochs=al.max_initial_epochs,
        gain=al.intermediate_gain,
        label_budget=math.inf if al.label_budget is None else al.initial_share * al.label_budget,
        calls_per_point=al.calls_per_point,
        train_in_background=al.parallel,
        scheduler=al.scheduler_initial,
        converge=al.converge_initial,
    )


def _active_learning(
    settings: Settings, folder: Path, measure: Measure | None
) -> ActiveLearningOptions:
    al, mace = settings.al, settings.mace
    assert mace is not None
    converged: Literal["all", "best"] = "best" if al.converge_best else "all"
    return ActiveLearningOptions(
        limits=Limits(al.max_MD_steps or math.inf, al.max_epochs_worker, al.max_rollbacks),
        stop=StopRules(
            al.desired_acc,
            al.max_set_size or math.inf,
            al.label_budget or math.inf,
            kept_for_test=n_test_labels(al.final_test, al.label_budget or 0, len(settings.systems)),
            by_worst_system=al.stop_on == "worst" and len(settings.systems) > 1,
        ),
        criterion=criterion(al, measure, settings.computes_stress),
        labelling=LabellingOptions(
            sanity_skip=al.sanity_skip if al.analysis else None,
            sanity_action=al.sanity_action,
            rescore=al.rescore_queue,
            duplicate_distance=al.duplicate_distance,
            farthest_first=al.candidate_order == "farthest",
            max_excess_energy=al.max_excess_energy,
        ),
        sweep=SweepOptions(
            skip_step=al.skip_step_mlff,
            mean_forces=al.md_forces == "mean",
            epochs_per_round=al.intermediate_epochs,
            margin=al.margin,
            train_while_waiting=al.train_while_waiting,
        ),
        converge=converged if al.converge_al else None,
        share_all=al.final_sets == "all",
        converge_anew=al.converge_from == "fresh",
        figures=folder / "analysis" if al.analysis else None,
        compile_models=mace.misc.compile_final,
        final_test=al.final_test,
    )
