"""The report of a finished, a killed and a foreign folder, and in a browser."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from run_folder import SMALLEST, copy_of, journal, labels, succeed, write_inputs

from fhi_al import cli
from fhi_al.app.run_record import run_record
from fhi_al.report.page.compared import compared

pytestmark = [pytest.mark.mpi, pytest.mark.real]

FIGURES = (
    *("learning_labels", "learning_time", "convergence"),
    *("parity_forces", "parity_energies", "calibration"),
    *("labels_where", "map", "uncertainty_md", "temperature_md", "energy_md", "timeline"),
)


def drawings(page: str) -> dict[str, Any]:
    """Panel -> what plotly.js is given."""
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def trace(panel: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for each in panel["data"] if each["name"] == name)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def finished(finished_run) -> Path:
    return finished_run("tblite", 1)


def test_a_finished_run_has_left_a_report_with_every_figure(finished: Path) -> None:
    page = (finished / "report" / "report.html").read_text()
    panels = drawings(page)
    assert {name.rpartition("-")[0] for name in panels} == set(FIGURES)
    assert 'class="missing"' not in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert set(re.findall(r'(?:src|href)="(.)', markup)) == {"#"}  # nothing to be loaded
    assert "report: " in (finished / "output.txt").read_text()


def test_its_numbers_are_those_of_the_tables(finished: Path) -> None:
    panels = drawings((finished / "report" / "report.html").read_text())
    ensemble = rows(finished / "results" / "ensemble_errors.csv")
    curve = trace(panels["learning_labels-0"], "final convergence")
    assert curve["y"][-1] == pytest.approx(1000 * float(ensemble[-1]["mae_forces"]), rel=1e-4)
    timed = [y for one in panels["learning_time-0"]["data"] if "yaxis" not in one for y in one["y"]]
    expected = [1000 * float(row["mae_forces"]) for row in ensemble]
    assert sorted(timed) == pytest.approx(sorted(expected), rel=1e-4)
    history = rows(finished / "analysis" / "uncertainty_history.csv")
    for key, unit in (("uncertainty", 1000), ("temperature", 1)):
        of_0 = [unit * float(row[key]) for row in history if row["trajectory"] == "0"]
        assert trace(panels[f"{key}_md-0"], "trajectory 0")["y"] == pytest.approx(of_0, rel=1e-4)
    bars = {one["name"]: sum(one["x"]) for one in panels["labels_where-0"]["data"]}
    assert sum(bars.values()) == len(labels(finished))


def test_parity_has_the_error_that_the_run_tells(finished: Path) -> None:
    (forces,) = compared(run_record(finished), "final")["forces"]
    told = rows(finished / "results" / "ensemble_errors.csv")[-1]["mae_forces"]
    assert forces.mae == pytest.approx(float(told), rel=1e-5)  # kept in float32


def test_temperatures_and_energies_along_md_are_physical(finished: Path) -> None:
    for entry in journal(finished, "check"):
        assert 0 < entry["temperature"] < 3000 and entry["volume"] is None
        # GFN2-xTB's energy of water is -137.97 eV; MD adds less than 1 eV.
        assert entry["energy"] == pytest.approx(-137.5, abs=1.0)


def test_a_killed_run_has_a_report_that_says_what_is_missing(
    killed_run: Path, tmp_path: Path, capsys
) -> None:
    before = {path: path.stat().st_mtime_ns for path in killed_run.rglob("*") if path.is_file()}
    target = tmp_path / "somewhere" / "killed.html"
    assert cli.main_report([str(killed_run), "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    page = target.read_text()
    assert "Not finished: active learning" in page and "uncertainty_md-0" in drawings(page)
    # Its settings have report: false.
    missing = re.findall(r'class="missing">(.*?)</p>', page)
    assert any("report/activity.jsonl" in one for one in missing)
    assert any("report/predictions_final.npz" in one for one in missing)
    after = {path: path.stat().st_mtime_ns for path in killed_run.rglob("*") if path.is_file()}
    assert after == before


def test_damaged_files_are_told_and_left_out(finished: Path, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path / "damaged")
    store = run / "restart" / "labels.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text("".join(["not a label\n", *lines[1:-1], lines[-1][:40]]))
    (run / "report" / "predictions_final.npz").write_bytes(b"PK")
    assert cli.main_report([str(run)]) == 0
    page = (run / "report" / "report.html").read_text()
    assert "restart/labels.jsonl: 1 damaged lines are left out" in page
    assert "the models of the initial dataset" in page


@pytest.mark.parametrize("kind", ["foreign", "not started", "not there"])
def test_a_folder_without_a_run_is_refused(kind: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "some"
    if kind != "not there":
        folder.mkdir()
    if kind == "not started":
        (folder / "active_learning_settings.yaml").write_text("")
    before = list(tmp_path.rglob("*"))
    assert cli.main_report([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"FHI_AL-report: {folder}: ")
    assert {"foreign": "not the folder of a run", "not started": "Start the run first"}.get(
        kind, "there is no such folder"
    ) in error
    assert list(tmp_path.rglob("*")) == before


def test_a_report_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    changes = {"ACTIVE_LEARNING": SMALLEST, "MISC": {"report": "snapshots"}}
    write_inputs(folder, active_learning=changes)
    (folder / "report").write_text("a file where the folder should be")
    output = succeed(folder)
    assert "the report of this launch will not say who did what when" in output
    assert "no report: " in output and "the report will have no parity figures" in output


NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# Of a page whose figures are drawn: how wide it is, and its window.
MEASURE = """<script>
const look = setInterval(function () {
  const root = document.documentElement;
  if (!root.dataset.drawn) return;
  clearInterval(look);
  root.dataset.wider = String(root.scrollWidth - window.innerWidth);
}, 20);
</script></body>"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
@pytest.mark.parametrize("width", [500, 1200])
def test_a_browser_draws_every_figure(finished: Path, tmp_path: Path, width: int) -> None:
    assert CHROMIUM
    page = (finished / "report" / "report.html").read_text()
    copy = tmp_path / "report.html"
    copy.write_text(page.replace("</body>", MEASURE))
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    # What the page says goes to stderr, in lines that hold CONSOLE.
    options = ["--headless", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'user'}"]
    # Its own clock: it runs until nothing is left to do, on a slow machine too.
    options += ["--virtual-time-budget=60000", "--dump-dom"]
    ended = subprocess.run(
        [CHROMIUM, *sandbox, *options, copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in ended.stderr, ended.stderr
    root = re.search(r"<html[^>]*>", ended.stdout)
    assert root
    panels = drawings(page)
    assert f'data-drawn="{len(panels)}"' in root[0]
    # No sideways scrolling of the whole page.
    wider = re.search(r'data-wider="(-?\d+)"', root[0])
    assert wider and int(wider[1]) <= 0
    for name in panels:
        drawn = ended.stdout.partition(f'id="{name}"')[2].partition('<div class="panel"')[0]
        assert 'class="main-svg"' in drawn and 'data-drawn="yes"' in ended.stdout, name
