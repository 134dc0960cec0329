"""The keys of the section SYSTEMS, and how many trajectories each system has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from fhi_al.settings.clash import Clash
from fhi_al.settings.md import MolecularDynamics
from fhi_al.settings.md_blocks import MDBlock, md_blocks, section_label
from fhi_al.settings.problems import nearest
from fhi_al.settings.value_types import (
    Arguments,
    FilePath,
    OptionalInteger,
    OptionalNumber,
    OptionalPath,
    OptionalPlainName,
    Section,
    optional,
    read_plain_name,
    refuse,
    setting,
)

COUNT = "ACTIVE_LEARNING.num_trajectories"


def read_names(value: object) -> tuple[str, ...]:
    """One name, or a list of names."""
    given = value if isinstance(value, list | tuple) else [value]
    if not given:
        raise refuse("must be a name of an MD block, or a list of names")
    return tuple(read_plain_name(str(name) if isinstance(name, int) else name) for name in given)


OptionalNames = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(optional(read_names)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["string", "integer"]},
                {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]


class System(Section):
    """What is simulated; without this section the system of `geometry.in` and `control.in`.

    One block of these keys, or a list of blocks: one set of models for all of them.
    """

    name: OptionalPlainName = setting(
        None,
        "In the log, in tables and in the labels (`system`). Required where there are several.",
        shown_default="required with several",
    )
    geometry: FilePath = setting(
        Path("geometry.in"),
        "Structure in FHI-aims' format (`*.in`) or any that ASE reads. A file with several frames,"
        " or a pattern such as `starts/*.in`: trajectories begin at each of them in turn.",
    )
    control: OptionalPath = setting(
        None, "A control.in of its own (FHI-aims).", shown_default="control.in"
    )
    arguments: Arguments = setting(
        dict,
        "Arguments of the engine for this system (of tblite `charge` and `multiplicity`), which"
        " overrule those of `reference_arguments`.",
        shown_default="{}",
    )
    trajectories: OptionalInteger = setting(
        None,
        "Trajectories of active learning; without the key an equal part of `num_trajectories`.",
        ge=1,
        shown_default="an equal part",
    )
    md: OptionalNames = setting(
        None,
        "Names of the MD blocks that its trajectories run in turn.",
        shown_default="all",
    )
    share: OptionalNumber = setting(
        None,
        "Its share of the initial dataset's points, compared with those of the other systems, which"
        " have 1 without the key.",
        gt=0,
        try_=1.0,
        shown_default="1",
    )


def system_label(sections: Sequence[System], index: int) -> str:
    """What a system is called in the settings: ``SYSTEMS``, or ``SYSTEMS[1]``."""
    return section_label("SYSTEMS", len(sections), index)


def trajectory_counts(sections: Sequence[System], in_all: int) -> list[int]:
    """Trajectories of each system.

    Parameters
    ----------
    sections : sequence of System
    in_all : int
        For those that do not say how many they have, together.
    """
    sharing = [k for k, section in enumerate(sections) if section.trajectories is None]
    counts = [section.trajectories or 0 for section in sections]
    for place, k in enumerate(sharing):
        counts[k] = in_all // len(sharing) + (place < in_all % len(sharing))
    return counts


def blocks_of(section: System, blocks: Sequence[MDBlock]) -> tuple[int, ...]:
    """Indices of the MD blocks of a system, in the order in which its trajectories run them.

    A name is that of a block, or that of a ladder of temperatures: of all its steps.

    Raises
    ------
    KeyError
        If there is no block of that name.
    """
    if section.md is None:
        return tuple(range(len(blocks)))
    found: list[int] = []
    for name in section.md:
        named = [k for k, block in enumerate(blocks) if name in (block.name, block.section_name)]
        if not named:
            raise KeyError(name)
        found += named
    return tuple(dict.fromkeys(found))


def system_problems(
    sections: Sequence[System],
    md: Sequence[MolecularDynamics],
    n_trajectories: int,
    n_samples: int,
    *,
    own_sets: bool,
) -> Iterator[Clash]:
    """What contradicts itself between systems, MD blocks and trajectories.

    Parameters
    ----------
    sections : sequence of System
    md : sequence of MolecularDynamics
        The section MD.
    n_trajectories : int
        ``num_trajectories``.
    n_samples : int
        Points per member and sampling round, of all systems together.
    own_sets : bool
        Whether members have points of their own.
    """
    yield from _names(sections)
    yield from _shares(sections, n_samples, own_sets=own_sets)
    counts = trajectory_counts(sections, n_trajectories)
    for index, count in enumerate(counts):
        if count == 0:
            label = system_label(sections, index)
            yield Clash(
                (f"{label}.trajectories", COUNT),
                f"system {sections[index].name} has no trajectory: num_trajectories ="
                f" {n_trajectories} are fewer than the systems that share them. Make that"
                f" {sum(s.trajectories is None for s in sections)} or more, or give each system"
                " trajectories",
                about_value=False,
            )
    blocks = md_blocks(md)
    used: set[int] = set()
    for index, (section, count) in enumerate(zip(sections, counts, strict=True)):
        try:
            own = blocks_of(section, blocks)
        except KeyError as error:
            yield _unknown_block(sections, index, str(error.args[0]), blocks)
            return
        used.update(own[:count])
    idle = [block for k, block in enumerate(blocks) if k not in used]
    if idle:
        yield _idle_blocks(idle, blocks, sections, n_trajectories)


def _names(sections: Sequence[System]) -> Iterator[Clash]:
    taken: dict[str, int] = {}
    for index, section in enumerate(sections):
        label = system_label(sections, index)
        if section.name is None:
            if len(sections) > 1:
                yield Clash(
                    (f"{label}.name",),
                    "missing: with several systems each has a name, by which tables and labels"
                    " call it, such as name: water",
                    about_value=False,
                )
        elif section.name in taken:
            yield Clash(
                (f"{label}.name",),
                f"is the name of SYSTEMS[{taken[section.name]}], too: labels would not say which"
                " system they are of. Give each system a name of its own",
            )
        else:
            taken[section.name] = index


def _shares(sections: Sequence[System], n_samples: int, *, own_sets: bool) -> Iterator[Clash]:
    """Every system needs a point in the first round: models know nothing of it otherwise.

    Of sets of its own a member validates on one of two points.
    """
    shares = [1.0 if section.share is None else section.share for section in sections]
    needed = round(sum(shares) / min(shares)) * (2 if own_sets else 1)
    if len(sections) > 1 and n_samples < needed:
        yield Clash(
            ("ACTIVE_LEARNING.n_samples", "SYSTEMS"),
            f"is too small for {len(sections)} systems, each of which is to have points of every"
            f" member in the first round: expected {needed} or more (the smallest share"
            " decides, and whether members have sets of their own: initial_sets)",
        )


def _unknown_block(
    sections: Sequence[System], index: int, name: str, blocks: Sequence[MDBlock]
) -> Clash:
    known = list(dict.fromkeys(n for b in blocks for n in (b.section_name, b.name) if n))
    guess = nearest(name, known)
    hint = f" Did you mean {guess}?" if guess else ""
    return Clash(
        (f"{system_label(sections, index)}.md",),
        f"there is no MD block {name}: expected names of blocks of the section MD, of which there"
        f" are {', '.join(known)}.{hint}",
    )


def _idle_blocks(
    idle: Sequence[MDBlock],
    blocks: Sequence[MDBlock],
    sections: Sequence[System],
    n_trajectories: int,
) -> Clash:
    names = ", ".join(block.name for block in idle)
    if len(sections) == 1 and sections[0].trajectories is None and sections[0].md is None:
        return Clash(
            (idle[0].label, COUNT),
            f"no trajectory runs MD block {names}: there are {len(blocks)} blocks and"
            f" num_trajectories = {n_trajectories}. Make that {len(blocks)} or more, or take blocks"
            " out",
            about_value=False,
        )
    return Clash(
        (idle[0].label, COUNT, "SYSTEMS"),
        f"no trajectory runs MD block {names}: no system names it (md), or those that do have fewer"
        " trajectories than blocks. Name it, give these systems more trajectories, or take blocks"
        " out",
        about_value=False,
    )
