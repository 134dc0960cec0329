"""Whether a command of the user's can be run without a shell.  Runs nothing."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

# What a shell acts on: anywhere but in quotes; at the beginning of a word; in double quotes too.
_ACTS = re.compile(r"&?\d*[<>]+&?\d*|[|&;()]+|\n")
_BEGINS = re.compile(r"(?<!\S)[#~]\S*|\A\w+=\S*")
_EXPANDS = re.compile(r"\$[\w({]+|`")
_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)


def _shell_syntax(command: str) -> str | None:
    """The first thing in a command that only a shell would understand; None if there is none."""

    def double_quoted(match: re.Match[str]) -> str:
        return re.sub(r"\\.", "_", match[0]) if match[0][0] == '"' else "_"

    bare = _QUOTED.sub("_", command.strip())
    expanded = _QUOTED.sub(double_quoted, command.strip())
    for pattern, text in ((_ACTS, bare), (_BEGINS, bare), (_EXPANDS, expanded)):
        found = pattern.search(text)
        if found is not None:
            return "a second line" if found[0] == "\n" else f"'{found[0]}'"
    return None


def command_problem(command: str, *, here: bool) -> str | None:
    """Why a command cannot be run; None if nothing says so.

    Parameters
    ----------
    command : str
    here : bool
        It runs on this machine, with this PATH: its program must be there.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"cannot be taken apart ({error}): expected a program and its arguments"
    if not words:
        return "is empty: expected a program and its arguments"
    shell = _shell_syntax(command)
    if shell is not None:
        return (
            f"{shell} is shell syntax, and no shell reads it: expected a program and its arguments "
            "(FHI_AL reads the output itself). Take it out, or write a script and name that"
        )
    program = Path(words[0])
    if len(program.parts) > 1 and not program.is_absolute():
        return "its program is a relative path: it runs in a folder of its own. Give the whole path"
    if not here:
        return None
    if shutil.which(words[0]) is None:
        return f"there is no program {words[0]} that can be run. Correct the path, or the PATH"
    for word in words[1:]:
        if Path(word).is_absolute() and not Path(word).exists():
            return f"there is no {word}. Correct the path"
    return None
