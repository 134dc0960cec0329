"""What is to be said of labels without a stress where the run asks for it.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from fhi_al.core.label import Label
from fhi_al.labels.records import Record

MOST_NAMED = 5


def without_stress(records: Iterable[Record]) -> str | None:
    """A sentence that says which labels have none, and what that means; None if all have one."""
    # A molecule has none in any run.
    labels = [record for record in records if isinstance(record, Label) and record.pbc]
    lacking = [label for label in labels if label.stress is None]
    if not lacking:
        return None
    names = ", ".join(_name(label) for label in lacking[:MOST_NAMED])
    more = ", ..." if len(lacking) > MOST_NAMED else ""
    return (
        f"{len(lacking)} of {len(labels)} labels have no stress ({names}{more}): they count with"
        " their energies and forces alone, and are not computed again. To have their stress, start"
        " in a new folder, or import them with REF_stress"
    )


def _name(label: Label) -> str:
    if label.origin.phase == "imported":
        return f"imported frame {label.origin.step}"
    return f"{label.origin.phase.replace('_', ' ')}, {label.origin.place}"
