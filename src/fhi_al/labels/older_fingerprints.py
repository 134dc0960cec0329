"""Which fingerprints of older programs are those of a run's engines; kept in ``restart/``.

A label keeps the fingerprint it was stored with.  That an older one means the present engine is
seen when the inputs still are what they were, and written down: from then on a comment in them may
change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fhi_al.engines.fingerprint import Fingerprint
from fhi_al.storage.atomic_file import write_atomically

FILE = "engine_fingerprints.json"


def with_older_names(restart: Path, engine: Fingerprint) -> Fingerprint:
    """An engine's fingerprint with all that its labels may be called besides.

    Parameters
    ----------
    restart : Path
        The run's ``restart/``.
    engine : Fingerprint
    """
    seen = [old for old, new in _known(restart).items() if new == engine.value]
    return replace(engine, older=tuple(dict.fromkeys([*engine.older, *seen])))


def write_down(restart: Path, older: Mapping[str, str]) -> bool:
    """Remember that labels with older fingerprints (old -> present) are of the engines.

    Returns
    -------
    bool
        Whether any of them was not known yet.
    """
    known = _known(restart)
    both = known | dict(sorted(older.items()))
    if both == known:
        return False
    write_atomically(restart / FILE, json.dumps(both, indent=2) + "\n")
    return True


def _known(restart: Path) -> dict[str, str]:
    try:
        content = json.loads((restart / FILE).read_text())
        return {str(old): str(new) for old, new in content.items()}
    except (OSError, ValueError, AttributeError):
        # Without it labels may have to be computed by inputs that are the same to the letter.
        return {}
