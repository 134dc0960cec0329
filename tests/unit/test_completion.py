"""Tab completion: of every command, by a real shell."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from fhi_al.cli import main_completion, main_init

ROOT = Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

# What readline does at a TAB: sets these, calls the function, reads COMPREPLY.
COMPLETE = """\
source {script}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
function=$(complete -p "${{COMP_WORDS[0]}}" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" "${{COMP_WORDS[0]}}" "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "all.bash"
    done = subprocess.run(
        ["FHI_AL-completion", "bash"], capture_output=True, text=True, timeout=60, check=True
    )
    path.write_text(done.stdout)
    return path


def completed(script: Path, *words: str) -> set[str]:
    text = COMPLETE.format(script=script, words=" ".join(f"'{word}'" for word in words))
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, timeout=30, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("command", sorted(SCRIPTS))
def test_every_command_completes_its_options(script: Path, command: str) -> None:
    assert {"--help", "--version"} <= completed(script, command, "--")


def test_choices_are_completed(script: Path) -> None:
    assert completed(script, "FHI_AL-init", "--engine", "t") == {"tblite"}
    assert completed(script, "FHI_AL-init", "--example", "eth") == {"ethanol"}
    assert completed(script, "FHI_AL", "--ch") == {"--check"}


def test_other_shells_have_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_completion(["zsh"]) == 0
    assert capsys.readouterr().out.count("#compdef FHI_AL") == len(SCRIPTS)


def test_a_command_prints_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main_init(["--print-completion", "bash"])
    assert end.value.code == 0
    assert "-F _shtab_FHI_AL_init FHI_AL-init\n" in capsys.readouterr().out
