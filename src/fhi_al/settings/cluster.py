"""The keys of ACTIVE_LEARNING.cluster: where labels run as jobs of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from fhi_al.settings.value_types import (
    Boolean,
    Choice,
    Integer,
    Number,
    OptionalInteger,
    Section,
    optional,
    read_text,
    refuse,
    setting,
)


def read_walltime(value: object) -> str:
    """``HH:MM:SS``, longer than nothing."""
    text = value.strip() if isinstance(value, str) else ""
    if not re.fullmatch(r"\d{1,4}:[0-5]\d:[0-5]\d", text) or not re.search(r"[1-9]", text):
        raise refuse("must be a time HH:MM:SS, such as 04:00:00")
    return text


def read_word(value: object) -> str:
    """A name without blanks, as Slurm has them."""
    text = read_text(value)
    if not re.fullmatch(r"[\w.,:+@/-]+", text):
        raise refuse("must be one word (letters, digits and . , : + @ / _ -)")
    return text


def read_lines(value: object) -> str:
    """A text of any number of lines; none is allowed."""
    if not isinstance(value, str):
        raise refuse("must be text (after a '|' it may have several lines)")
    return value.strip()


def read_scheduler_options(value: object) -> str:
    """Lines that all begin with ``#SBATCH``."""
    text = read_lines(value)
    # Not splitlines(): what the shell takes for one line is one line.
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#SBATCH "):
            raise refuse("every line must begin with '#SBATCH ' (in quotes, or after a '|')")
    return text


Walltime = Annotated[
    str,
    BeforeValidator(read_walltime),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,4}:[0-5]\d:[0-5]\d$"}),
]
Lines = Annotated[str, BeforeValidator(read_lines)]
SchedulerOptions = Annotated[str, BeforeValidator(read_scheduler_options)]
OptionalWord = Annotated[str | None, BeforeValidator(optional(read_word))]
OptionalText = Annotated[str | None, BeforeValidator(optional(read_text))]


class Cluster(Section):
    """Labels as jobs of their own, on workers of Parsl (`pip install 'fhi-al[cluster]'`)."""

    provider: Annotated[Literal["local", "slurm"], Choice()] = setting(
        "local",
        "Workers on this machine, or in jobs that are submitted to Slurm (blocks).",
    )
    aims_command: OptionalText = setting(
        None,
        "What runs FHI-aims (the executable) in a folder with its inputs, such as"
        " `srun -n 64 aims.x`; no shell. Required with `reference_engine: aims`.",
        shown_default="required with aims",
    )
    max_jobs: OptionalInteger = setting(
        None,
        "Labels that may be out at once.",
        ge=1,
        shown_default="one per worker",
    )
    workers_per_node: Integer = setting(1, "Labels computed at once on a node.", ge=1)
    cores_per_worker: Integer = setting(1, "Threads of one label (OMP_NUM_THREADS).", ge=1)
    max_blocks: Integer = setting(1, "Blocks of workers at once.", ge=1)
    nodes_per_block: Integer = setting(1, "Nodes of a block.", ge=1)
    launcher: Annotated[Literal["single", "srun"], Choice()] = setting(
        "single",
        "Workers on the first node of a block only, for an `aims_command` that spreads itself over"
        " all of them; or (`srun`) on every node.",
    )
    walltime: Walltime = setting("04:00:00", "Time limit of a block, HH:MM:SS.", try_="04:00:00")
    partition: OptionalWord = setting(None, "Partition of Slurm.", shown_default="Slurm's")
    account: OptionalWord = setting(None, "Account of Slurm.", shown_default="Slurm's")
    exclusive: Boolean = setting(True, "Ask for whole nodes.")
    scheduler_options: SchedulerOptions = setting(
        "", "More lines `#SBATCH ...` for the blocks.", shown_default="none"
    )
    worker_init: Lines = setting(
        "", "Shell commands before workers start (`module load ...`).", shown_default="none"
    )
    job_timeout: Number = setting(
        3600.0, "A label that takes longer is killed and tried again.", unit="s", gt=0
    )
    attempts: Integer = setting(
        3, "How often a label that fails, is lost or takes too long is tried.", ge=1
    )
    lost_after: Integer = setting(
        120, "Workers without a sign of life for so long count as lost.", unit="s", ge=4
    )
    idle_time: Number = setting(
        300.0, "Without any work for so long the blocks are given back.", unit="s", ge=0
    )

    @property
    def walltime_s(self) -> int:
        """Time limit of a block in s."""
        hours, minutes, seconds = (int(part) for part in self.walltime.split(":"))
        return 3600 * hours + 60 * minutes + seconds


def read_cluster(value: object) -> Any:
    """A mapping; its keys are checked one by one."""
    if not isinstance(value, Mapping | Cluster):
        raise refuse("must be keys below it, such as provider: local")
    return value


OptionalCluster = Annotated[Cluster | None, BeforeValidator(optional(read_cluster))]
