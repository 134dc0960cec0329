"""The report's figures from values known by hand, and a page that nothing in it can break."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fhi_al.app.run_record import run_record
from fhi_al.core.label import Label, Origin
from fhi_al.core.run_state import RunState, Stage
from fhi_al.models.interface import Prediction
from fhi_al.report.page.compared import compared
from fhi_al.report.page.figures import distinct, duration, thinned
from fhi_al.report.page.labels import principal_components
from fhi_al.report.page.page import report_html
from fhi_al.report.page.verdict import verdict
from fhi_al.report.page.words import asked
from fhi_al.report.predictions import Predicted, read_predictions, write_predictions
from fhi_al.report.record import Events, RunRecord

OLD_STATES = Path(__file__).parents[1] / "workflow" / "old_states"


def label(key: str, energy: float, phase: str = "initial") -> Label:
    return Label(
        key=key,
        system=0,
        numbers=np.array([1, 1]),
        positions=np.array([[0.0, 0, 0], [0, 0, 0.7 + 0.1 * len(key)]]),
        cell=np.zeros((3, 3)),
        pbc=False,
        energy=energy,
        forces=np.array([[0.0, 0, 1], [0, 0, -1]]),
        stress=None,
        origin=Origin(phase, 0, 0),
    )


def record(labels: list[Label], **changes) -> RunRecord:
    values = {
        "folder": Path("somewhere"),
        "state": None,
        "settings": {},
        "names": ("",),
        "sets": (),
        "labels": labels,
        "events": Events(),
        "launches": (),
        "predictions": {},
        "versions": {},
        "inputs": (),
        "last_sign": None,
    }
    return RunRecord(**(values | changes))


def predicted() -> list[Predicted]:
    """Two members: the first is off by 0.1 eV/A and 0.2 eV, the second by twice that."""
    forces = np.array([[[0, 0, 1.1], [0, 0, -1.1]], [[0, 0, 1.2], [0, 0, -1.2]]])
    found = Prediction(np.array([-1.8, -1.6]), forces)
    return [
        # Of validation points only the members that validate on them count.
        Predicted.of("a", "validation", [True, False], found),
        Predicted.of("aa", "held out", [True, True], found),
    ]


def test_errors_are_those_of_the_members_that_count() -> None:
    run = record(
        [label("a", -2.0), label("aa", -2.0, "test")],
        predictions={"final": (predicted(), {"validation": 1, "held out": 1})},
    )
    forces, energies = compared(run, "final")["forces"], compared(run, "final")["energies"]
    validation, held_out = forces
    assert validation.mae == pytest.approx(0.1 / 3) and validation.mae_of_mean == validation.mae
    assert held_out.mae == pytest.approx(0.15 / 3)
    assert held_out.rmse == pytest.approx(0.15 / 3**0.5)
    assert held_out.worst == pytest.approx(0.2)
    assert [one.mae for one in energies] == pytest.approx([0.1, 0.15])  # per atom
    assert compared(run, "final").keys() == {"forces", "energies"}


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "report" / "predictions_final.npz"
    write_predictions(path, predicted(), {"validation": 7, "held out": 1})
    found, sets = read_predictions(path) or ([], {})
    assert sets == {"validation": 7, "held out": 1}
    for one, before in zip(found, predicted(), strict=True):
        assert (one.key, one.points) == (before.key, before.points)
        assert one.counts.tolist() == before.counts.tolist() and one.stress is None
        np.testing.assert_allclose(one.forces, before.forces, rtol=1e-6)  # in float32
        np.testing.assert_array_equal(one.energies, before.energies)
    path.write_bytes(path.read_bytes()[:-20])
    assert read_predictions(path) is None
    assert read_predictions(tmp_path / "none.npz") is None


def test_the_map_tells_a_stretched_molecule_from_others() -> None:
    geometries = [
        (
            np.array([8, 1, 1]),
            np.array([[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59 + stretch]]),
            np.zeros((3, 3)),
            False,
        )
        for stretch in (0.0, 0.01, 0.02, 0.5)
    ]
    found, shares = principal_components(geometries)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    assert distances[:3, :3].max() < 0.3 * distances[3, :3].min()
    assert 0.5 < shares[0] <= 1.0 and shares[0] + shares[1] <= 1.0 + 1e-12


def test_points_on_top_of_each_other_are_drawn_once() -> None:
    x = np.repeat([0.0, 1.0], 500)
    assert distinct(x, 2 * x) == [0, 500]


def test_what_is_thinned_out_keeps_its_ends_and_what_it_must() -> None:
    some = thinned(10_000, 100, always=[17])
    assert {0, 17, 9999} <= set(some) and len(some) <= 101
    assert thinned(5, 100) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.2, "3 s"), (600, "10 min"), (9000, "2.5 h"), (4e5, "4.6 d")]
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_no_name_or_setting_can_break_out_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><b>&"
    run = record(
        [label("a", -2.0), label("aa", -2.0), label("aaa", -2.1)],
        names=(evil,),
        settings={"GENERAL.name_exp": evil, "ACTIVE_LEARNING.reference_engine": evil},
        inputs=[(evil, evil)],
        versions={evil: evil},
    )
    page = report_html(run)
    assert "alert(1)</script>" not in page and evil not in page
    assert page.count("</script>") == 3
    data = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    assert evil in data["map-0"]["layout"]["title"]["text"]


def test_systems_with_names_are_told_apart() -> None:
    """The journal calls a system by its name, or by its index if it has none."""
    fit = {"scale": 2.0, "low": 1.5, "high": 2.5, "n_pairs": 9, "within_1": 0.7, "within_2": 0.9}
    pair = {"uncertainty": 0.1, "true_error": 0.2, "counts": True, "spearman": None, **fit}
    entries = [{"kind": "calibration", "system": name, **pair} for name in ("water", "methane")]
    page = report_html(record([label("a", -2.0)], events=Events(entries, [1, 2])))
    data = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    names = {one.get("name") for one in data["calibration-0"]["data"]}
    assert {"sanity check, water", "scale × uncertainty, methane"} <= names
    entries = [{"kind": "calibration", "system": 0, **pair}]
    assert "<td>H2</td><td>9</td><td>2</td>" in report_html(
        record([label("a", -2.0)], events=Events(entries, [1]))
    )


@pytest.mark.parametrize("folder", sorted(OLD_STATES.iterdir()), ids=lambda path: path.name)
def test_runs_of_earlier_programs_have_a_report(folder: Path) -> None:
    page = report_html(run_record(folder))
    data = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    assert {"learning_labels-0", "labels_where-0", "map-0", "uncertainty_md-0"} <= data.keys()
    assert "Not finished: active learning" in page
    # Which did not write temperatures.
    is_old = int(folder.name.removeprefix("version_")) < 7
    assert ("made by an earlier program" in page) == is_old


def test_a_run_that_has_hardly_begun_has_a_report() -> None:
    page = report_html(record([label("a", -2.0)]))
    assert "Not finished: before its first snapshot" in page
    assert "No model has been trained yet." in page
    assert page.count('class="missing"') >= 8


@pytest.mark.parametrize(
    ("wanted", "headline", "said"),
    [
        (0.0, "Finished", None),  # no such stop
        (0.001, "Finished, less accurate than asked for", "1 meV/Å was asked for: not reached."),
        (0.5, "Finished: as accurate as asked for", "500 meV/Å were asked for: reached."),
    ],
)
def test_the_verdict_compares_with_an_error_that_was_asked_for_only(
    wanted: float, headline: str, said: str | None
) -> None:
    entry = {"mae_forces": 0.1, "n_validation": 4}
    done = record(
        [label("a", -2.0)],
        state=RunState(stage=Stage.DONE, stop_reason="all trajectories are done"),
        settings={"ACTIVE_LEARNING.desired_acc": wanted},
        events=Events([{"kind": "ensemble", **entry}], [1]),
    )
    found = verdict(done)
    assert found.headline == headline
    assert ("asked for" in found.text) == (said is not None)
    assert said is None or said in found.text
    shown = dict(asked(done))
    assert ("force error wanted" in shown) == (said is not None)


def test_a_sampler_is_no_model_that_members_start_from() -> None:
    settings = {
        "ACTIVE_LEARNING.ensemble_size": 4,
        "ACTIVE_LEARNING.foundation_model": "sampler.model",
        "ARCHITECTURE.foundation_model": None,
        "GENERAL.seed": 1,
    }
    assert dict(asked(record([], settings=settings)))["models"] == "4 members, MACE, seed 1"
    settings["ARCHITECTURE.foundation_model"] = "medium-mpa-0"
    models = dict(asked(record([], settings=settings)))["models"]
    assert models == "4 members, MACE, fine-tuned from medium-mpa-0, seed 1"
