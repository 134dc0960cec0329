"""Every settings key changes something, or the program says that it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).with_name("settings_effects.py")
BACKENDS = Path(__file__).parents[1] / "backends"
INVENTED = "ACTIVE_LEARNING.invented"


def without_effect(folder: Path, what: str) -> tuple[int, dict[str, str]]:
    """How many keys were looked at, and those without effect: of all, or of an invented one."""
    done = subprocess.run(
        [sys.executable, SCRIPT, folder / "run", what],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (SCRIPT.parent, BACKENDS))),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    n_keys, found = json.loads(done.stdout.splitlines()[-1])
    return n_keys, found


def test_every_key_has_an_effect_or_a_note_that_says_it_has_none(tmp_path: Path) -> None:
    n_keys, found = without_effect(tmp_path, "all")
    assert n_keys > 120
    assert found == {}


@pytest.mark.parametrize("what", ["unread", "read in vain"])
def test_an_invented_key_without_effect_is_found(tmp_path: Path, what: str) -> None:
    n_keys, found = without_effect(tmp_path, what)
    assert n_keys == 1
    assert list(found) == [INVENTED]
    assert "no effect of serial: 2" in found[INVENTED]


def test_an_invented_key_with_an_effect_is_not(tmp_path: Path) -> None:
    assert without_effect(tmp_path, "used") == (1, {})
