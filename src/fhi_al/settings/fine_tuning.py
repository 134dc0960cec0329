"""The keys of the section TRAINING that say how a foundation model is trained on."""

from __future__ import annotations

from typing import Annotated, Literal

from fhi_al.settings.value_types import (
    Choice,
    Integer,
    Number,
    OptionalPath,
    Section,
    setting,
)


class FineTuning(Section):
    """What the section TRAINING says of models that start from a foundation model."""

    fine_tuning: Annotated[Literal["naive", "frozen", "lora", "replay"], Choice()] = setting(
        "naive",
        "How a `foundation_model` is trained: all its weights (`naive`); those above `freeze`"
        " (`frozen`); small adapters on all its layers (`lora`), which are merged into the saved"
        " models; or all, with structures that the foundation model itself labelled among every"
        " batch, on a head of their own, so that it forgets less (`replay`).",
    )
    freeze: Integer = setting(
        6,
        "What stays as it is with `fine_tuning: frozen`, by MACE's levels: the embedding (1 to 4),"
        " the interactions, too (5), all but the readouts (6).",
        ge=1,
        le=6,
    )
    lora_rank: Integer = setting(4, "Rank of the adapters with `fine_tuning: lora`.", ge=1)
    lora_alpha: Number = setting(
        4.0, "The adapters count `lora_alpha` / `lora_rank` times.", gt=0, try_=4.0
    )
    replay_file: OptionalPath = setting(
        None,
        "Structures for `fine_tuning: replay` (extended xyz, or anything ASE reads), which the"
        " foundation model labels; energies and forces in the file do not count.",
        shown_default="MD and displaced structures of the run's own systems",
    )
    replay_structures: Integer = setting(
        100, "How many structures are made for `fine_tuning: replay` without a file.", ge=2
    )
    replay_batch: Integer = setting(5, "Structures of replay among every batch.", ge=1)
    readouts: Annotated[Literal["kept", "perturbed", "reinitialised"], Choice()] = setting(
        "perturbed",
        "How members that start from one foundation model differ before they are trained: their"
        " readouts are `kept` (they do not differ), `perturbed` by random numbers of their own, or"
        " drawn anew.",
    )
    readout_noise: Number = setting(
        0.1,
        "With `readouts: perturbed`: standard deviation of these numbers, in units of the root mean"
        " square of a layer's weights.",
        gt=0,
        le=1,
        try_=0.1,
    )
