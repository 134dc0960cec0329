"""The section ARCHITECTURE of mace_settings.yaml: the network, or the model that it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from fhi_al.settings.mace_choices import MODELS_REFUSED, Interaction, InteractionFirst
from fhi_al.settings.mace_values import read_energies, read_layers, read_scalar_irreps
from fhi_al.settings.value_types import (
    Boolean,
    Choice,
    Integer,
    Number,
    OptionalText,
    Section,
    setting,
)


class ModelArchitecture(Section):
    """What the section ARCHITECTURE holds for models of any kind."""

    atomic_energies: Annotated[dict[int, float] | None, BeforeValidator(read_energies)] = setting(
        None,
        "Energy of each isolated atom by atomic number or symbol (`{1: -13.6}`), as"
        " `FHI_AL-atomic-energies` writes it. Without it: least-squares averages from the data.",
        unit="eV",
        shown_default="from the data",
    )


class Architecture(ModelArchitecture):
    """The network; every member has the same."""

    model: Annotated[Literal["MACE", "ScaleShiftMACE"], Choice(MODELS_REFUSED)] = setting(
        "MACE",
        "`ScaleShiftMACE` adds the mean energy per atom to the output, `MACE` does not"
        " (it also starts with a RealAgnosticInteractionBlock).",
    )
    r_max: Number = setting(5.0, "Cutoff radius.", unit="A", gt=0, le=30, try_=5.0)
    num_channels: Integer = setting(128, "Channels of each feature.", ge=1)
    max_L: Integer = setting(1, "Highest angular momentum of the messages.", ge=0, le=4)  # noqa: N815
    max_ell: Integer = setting(3, "Highest angular momentum of the edges.", ge=1, le=8)
    radial_type: Annotated[Literal["bessel", "gaussian", "chebyshev"], Choice()] = setting(
        "bessel", "Radial basis functions."
    )
    num_radial_basis: Integer = setting(8, "Number of radial basis functions.", ge=1)
    num_cutoff_basis: Integer = setting(5, "Order of the smooth polynomial cutoff.", ge=2)
    interaction: Annotated[Interaction, Choice()] = setting(
        "RealAgnosticResidualInteractionBlock", "Interaction block from the second layer on."
    )
    num_interactions: Integer = setting(2, "Message-passing layers.", ge=1, le=10)
    correlation: Integer = setting(3, "Correlation (body) order of each layer.", ge=1, le=6)
    radial_MLP: Annotated[tuple[int, ...], BeforeValidator(read_layers)] = setting(  # noqa: N815
        (64, 64, 64), "Layer widths of the radial network."
    )
    gate: Annotated[Literal["silu", "tanh", "abs", "None"], Choice()] = setting(
        "silu", "Non-linearity of the last readout."
    )
    MLP_irreps: Annotated[str, BeforeValidator(read_scalar_irreps)] = setting(
        "16x0e", "Hidden features of the last readout; even scalars."
    )
    interaction_first: Annotated[InteractionFirst, Choice()] = setting(
        "RealAgnosticResidualInteractionBlock", "Interaction block of the first layer."
    )
    compute_avg_num_neighbors: Boolean = setting(
        True, "Normalise messages by the average number of neighbours; `false`: by 1."
    )
    foundation_model: OptionalText = setting(
        None,
        "Model that all members start from, instead of random weights: a MACE file, a file of"
        " weights and settings, or a name of MACE's own (`small`, `medium-mpa-0`, `medium-omat-0`,"
        " `mace-matpes-r2scan-0`, `mh-1`, `small_off`, `mace_omol`, ...). The network is then that"
        " of the model: leave the other keys of this section out, but `atomic_energies`. See"
        " `docs/how_to/fine_tuning.md`.",
        shown_default="none: a new model",
    )
    foundation_head: OptionalText = setting(
        None,
        "Head of a `foundation_model` that has several.",
        shown_default="needed where there are several",
    )
    foundation_elements: Annotated[Literal["all", "run"], Choice()] = setting(
        "all",
        "Elements that the members know: all of the `foundation_model`, or those of the run's"
        " systems only, which is faster and makes smaller files.",
    )
    accept_licence: Boolean = setting(
        False,
        "You accept the licence of a `foundation_model` of MACE's that may not be used for"
        " everything (Academic Software License).",
    )
