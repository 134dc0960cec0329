"""How good the models are: parity of forces, energies and stress, and the uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fhi_al.report.page.calibration import calibration_figure
from fhi_al.report.page.compared import Compared, compared
from fhi_al.report.page.figures import (
    INK,
    SYMBOLS,
    Figure,
    Panel,
    Table,
    Trace,
    axis,
    color_of,
    distinct,
    line,
    mev,
    points,
    rounded,
    thinned,
)
from fhi_al.report.record import RunRecord

_UNITS = {"forces": "eV/Å", "energies": "eV/atom", "stress": "eV/Å³"}
_CAPTIONS = {
    "forces": "Predictions of {whose} for labels that the members were not trained on: of "
    "validation points by the mean of the members that validate on them, of test points by the "
    "mean of all. Left: points should lie on the line; right: the same as errors, which should "
    "scatter evenly about zero at all sizes. The table gives the mean over the members of each "
    "one's own errors, as the run's tables do, and the error of their mean prediction.",
    "energies": "The same for total energies per atom, which are shown relative to the mean of "
    "their set and system.",
    "stress": "The same for all nine components of the stress.",
}
_NO_PARITY = (
    "It takes the models' predictions for labels that they were not trained on: a run keeps them "
    "in report/predictions_initial.npz and report/predictions_final.npz, when the initial dataset "
    "and when the final models are done, unless MISC.report is false."
)


def error_figures(record: RunRecord) -> Iterator[Figure]:
    """All of this page's section."""
    yield from _parity(record)
    yield calibration_figure(record)


def _parity(record: RunRecord) -> Iterator[Figure]:
    phase = next((each for each in ("final", "initial") if each in record.predictions), None)
    if phase is None:
        yield Figure("parity_forces", "Predictions against the reference", missing=_NO_PARITY)
        return
    found, sets = compared(record, phase), record.predictions[phase][1]
    whose = "the final models" if phase == "final" else "the models of the initial dataset"
    for quantity, title in (
        ("forces", "Forces"),
        ("energies", "Energies"),
        ("stress", "Stress"),
    ):
        groups = found.get(quantity)
        if groups:
            yield _parity_of(quantity, f"{title} against the reference", groups, whose, sets)
        elif quantity == "stress" and any(label.stress is not None for label in record.good):
            text = "No label of the validation or test set has a stress."
            yield Figure("parity_stress", "Stress against the reference", missing=text)
    if not found:
        text = "None of the labels that predictions were kept for is in restart/labels.jsonl."
        yield Figure("parity_forces", "Predictions against the reference", missing=text)


def _parity_of(
    quantity: str, title: str, groups: Sequence[Compared], whose: str, sets: Mapping[str, int]
) -> Figure:
    unit = _UNITS[quantity]
    parity: list[Trace] = []
    residuals: list[Trace] = []
    systems = list(dict.fromkeys(one.system for one in groups))
    names = list(dict.fromkeys(one.points for one in groups))
    for one in groups:
        # Total energies of a system differ by little: as they differ from their mean.
        zero = float(one.reference.mean()) if quantity == "energies" else 0.0
        x, y = one.reference - zero, one.predicted - zero
        name = one.points if len(systems) == 1 else f"{one.system}, {one.points}"
        place = names.index(one.points) if len(systems) == 1 else systems.index(one.system)
        style = {"symbol": SYMBOLS[names.index(one.points) % len(SYMBOLS)], "opacity": 0.65}
        color = color_of(place)
        for traces, values in ((parity, y), (residuals, 1000 * (y - x))):
            seen = distinct(x, values)
            some = [seen[k] for k in thinned(len(seen))]
            traces.append(
                points(
                    *(rounded(x[some]), rounded(values[some])),
                    name,
                    color,
                    marker={"size": 4, **style},
                )
            )
    ends = [
        extreme(float(extreme(each["x"])) for each in parity if each["x"]) for extreme in (min, max)
    ]
    parity.append(line(ends, ends, "equal", INK, line={"width": 1}, showlegend=False))
    residuals.append(line(ends, [0, 0], "equal", INK, line={"width": 1}, showlegend=False))
    what = {"forces": "force component", "energies": "energy − mean", "stress": "stress component"}
    m = f"m{unit}"
    panels = [
        Panel(
            parity,
            {
                "xaxis": axis(f"reference {what[quantity]} ({unit})"),
                "yaxis": axis(f"predicted ({unit})"),
            },
        ),
        Panel(
            residuals,
            {
                "xaxis": axis(f"reference {what[quantity]} ({unit})"),
                "yaxis": axis(f"predicted − reference ({m})"),
            },
        ),
    ]
    caption = _CAPTIONS[quantity].format(whose=whose)
    shown = {name: sum(one.n_labels for one in groups if one.points == name) for name in names}
    for name, n in shown.items():
        if quantity == "forces" and n < sets.get(name, n):
            caption += f" Of {sets[name]} labels ({name}) {n} are shown, evenly spread."
    return Figure(f"parity_{quantity}", title, caption, panels, tables=[_table(quantity, groups)])


def _table(quantity: str, groups: Sequence[Compared]) -> Table:
    """Errors by set and system."""
    m = f"m{_UNITS[quantity]}"
    header = ["set", "system", "structures", f"MAE ({m})", f"RMSE ({m})"]
    header += [f"largest ({m})", f"MAE of the mean ({m})"]
    digits = 2 if quantity != "forces" else 1
    rows = [
        [
            *(one.points, one.system, str(one.n_labels)),
            *(mev(value, digits) for value in (one.mae, one.rmse, one.worst, one.mae_of_mean)),
        ]
        for one in groups
    ]
    return Table(header, rows)
