"""The runs that the benchmark of the selection's options makes are runs of this program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fhi_al.app import checks
from fhi_al.settings import read_settings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from label_efficiency import CHANGED
from selection_options import OPTIONS, SYSTEM
from selection_program import write_run_folder

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_a_run_without_mistakes(tmp_path: Path, name: str) -> None:
    size, changed = OPTIONS[name].size, OPTIONS[name].changed
    write_run_folder(tmp_path, SYSTEM, 0, size.n_members, max(size.n_labels), CHANGED | changed)
    settings = read_settings(tmp_path)
    assert all(getattr(settings.al, key) == value for key, value in changed.items())
    checks.check(tmp_path, settings, checks.read_inputs(settings))
