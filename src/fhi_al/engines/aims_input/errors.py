"""What is wrong with an FHI-aims input file, and where.  Pure."""

from __future__ import annotations

from pathlib import Path


class AimsInputError(ValueError):
    """An FHI-aims input that cannot be used.

    Parameters
    ----------
    path : Path or str
        The file (or folder) at fault.
    line : int or None
        Line number from 1; None if it is the file as a whole.
    what : str
        What was found.
    expected : str
        What was expected instead.
    fix : str
        How to fix it; a whole sentence, or empty.
    """

    def __init__(
        self, path: Path | str, line: int | None, what: str, expected: str, fix: str = ""
    ) -> None:
        self.path = Path(path)
        self.line = line
        self.what = what
        self.expected = expected
        self.fix = fix
        where = str(path) if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {what}: {expected}." + (f" {fix}" if fix else ""))
