"""Files that a path or a pattern (``starts/*.in``) of the settings names."""

from __future__ import annotations

import glob
from pathlib import Path

from fhi_al.settings import Settings


def is_pattern(given: str) -> bool:
    """Whether a path has wildcards."""
    return glob.has_magic(given)


def matching_files(settings: Settings, given: str) -> list[Path]:
    """The files that match a pattern, which counts from the run's folder; sorted by name."""
    pattern = Path(given).expanduser()
    start = Path(pattern.anchor) if pattern.is_absolute() else settings.folder
    found = sorted(start.glob(str(pattern.relative_to(pattern.anchor))))
    return [path for path in found if path.is_file()]
