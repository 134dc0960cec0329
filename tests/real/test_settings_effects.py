"""Every settings key changes something, or the program says that it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).with_name("settings_effects.py")
BACKENDS = Path(__file__).parents[1] / "backends"
INVENTED = "ACTIVE_LEARNING.invented"
MEMORY = Path("/dev/shm")


Found = Callable[[str], tuple[int, dict[str, str]]]


@pytest.fixture(scope="session")
def without_effect(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """How many keys were looked at, and those without effect, by the case.

    One process looks at all: what the runs are without the keys is then described once.  The
    processes of pytest-xdist share it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def get(case: str) -> tuple[int, dict[str, str]]:
        report = folder / "settings_effects.json"
        with FileLock(f"{report}.lock"):
            if not report.exists():
                # A thousand runs are wired, and each waits for the disk several times.
                memory = MEMORY if os.access(MEMORY, os.W_OK) else folder
                with tempfile.TemporaryDirectory(dir=memory) as runs:
                    report.write_text(searched(Path(runs)))
        n_keys, found = json.loads(report.read_text())[case]
        return n_keys, found

    return get


def searched(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, folder / "run"],
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
    return done.stdout.splitlines()[-1]


def test_every_key_has_an_effect_or_a_note_that_says_it_has_none(without_effect: Found) -> None:
    n_keys, found = without_effect("all")
    assert n_keys > 120
    assert found == {}


@pytest.mark.parametrize("case", ["unread", "read in vain"])
def test_an_invented_key_without_effect_is_found(without_effect: Found, case: str) -> None:
    n_keys, found = without_effect(case)
    assert n_keys == 1
    assert list(found) == [INVENTED]
    assert "no effect of serial: 2" in found[INVENTED]


def test_an_invented_key_with_an_effect_is_not(without_effect: Found) -> None:
    assert without_effect("used") == (1, {})
