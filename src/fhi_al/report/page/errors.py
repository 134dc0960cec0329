"""How good the models are: parity of forces, energies and stress, and the uncertainty's meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.report.journal import Entry
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
from fhi_al.report.predictions import Predicted
from fhi_al.report.record import RunRecord


@dataclass(frozen=True, eq=False)
class Compared:
    """One quantity of the labels of one set and system, and what the models say of it.

    Parameters
    ----------
    points, system : str
        The set and the system, in words.
    n_labels : int
    reference : (n,)
        In eV/A, eV per atom or eV/A^3.
    predicted : (n,)
        The mean over the members that count.
    errors : (n, n_members)
        Of each member; NaN where one does not count.
    """

    points: str
    system: str
    n_labels: int
    reference: Array
    predicted: Array
    errors: Array

    @property
    def mae(self) -> float:
        """Mean over the members of their mean absolute errors."""
        return self._mean_over_members(np.abs(self.errors))

    @property
    def mae_of_mean(self) -> float:
        """Mean absolute error of the mean over the members."""
        return float(np.abs(self.predicted - self.reference).mean())

    @property
    def rmse(self) -> float:
        """Mean over the members of their root mean square errors."""
        found = np.sqrt(np.nanmean(np.square(self._known), axis=0))
        return float(found.mean())

    @property
    def worst(self) -> float:
        """The largest error of any member."""
        return float(np.nanmax(np.abs(self.errors)))

    @property
    def _known(self) -> Array:
        known: Array = self.errors[:, ~np.isnan(self.errors).all(axis=0)]
        return known

    def _mean_over_members(self, errors: Array) -> float:
        return float(np.nanmean(errors[:, ~np.isnan(errors).all(axis=0)], axis=0).mean())


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
    yield _calibration(record)


def compared(record: RunRecord, phase: str) -> dict[str, list[Compared]]:
    """By quantity: what the models of a phase say of the labels of each set and system."""
    predicted, _ = record.predictions[phase]
    labels = {label.key: label for label in record.good}
    groups: dict[tuple[str, int], list[tuple[Label, Predicted]]] = {}
    for one in predicted:
        label = labels.get(one.key)
        if label is not None and one.counts.any():
            groups.setdefault((one.points, label.system), []).append((label, one))
    found: dict[str, list[Compared]] = {}
    for (name, system), pairs in groups.items():
        for quantity, parts in _quantities(pairs).items():
            if not parts:
                continue
            wanted = np.concatenate([reference for reference, _ in parts])
            members = np.concatenate([of_members for _, of_members in parts])
            found.setdefault(quantity, []).append(
                Compared(
                    name,
                    record.system_name(system),
                    len(parts),
                    wanted,
                    np.nanmean(members, axis=1),
                    members - wanted[:, None],
                )
            )
    return found


def _quantities(
    pairs: Sequence[tuple[Label, Predicted]],
) -> dict[str, list[tuple[Array, Array]]]:
    """Reference (n,), and prediction of each member (n, n_members), NaN where it does not count."""
    found: dict[str, list[tuple[Array, Array]]] = {"forces": [], "energies": [], "stress": []}
    for label, one in pairs:
        counts = np.where(one.counts, 0.0, np.nan)
        n_atoms, n_members = len(label.numbers), len(counts)
        forces = one.forces.reshape(n_members, -1).T.astype(float) + counts
        found["forces"].append((label.forces.ravel(), forces))
        energies = (one.energies / n_atoms + counts)[None, :]
        found["energies"].append((np.array([label.energy / n_atoms]), energies))
        if label.stress is not None and one.stress is not None:
            stress = one.stress.reshape(n_members, -1).T + counts
            found["stress"].append((label.stress.ravel(), stress))
    return found


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
    return Figure(f"parity_{quantity}", title, caption, panels, tables=[Table(header, rows)])


def _calibration(record: RunRecord) -> Figure:
    key, title = "calibration", "Uncertainty against true error"
    entries = [
        entry
        for entry in record.events.of("calibration")
        if entry["uncertainty"] > 0 and entry["true_error"] > 0
    ]
    if not entries:
        return Figure(
            key,
            title,
            missing="The true error is measured where a structure of active learning gets a label; "
            "without regard to its uncertainty, at sanity checks (sanity_skip). There is none yet.",
        )
    systems = list(dict.fromkeys(entry["system"] for entry in entries))
    traces = list(_measured(record, entries, systems))
    ends = [extreme(entry["uncertainty"] for entry in entries) for extreme in (min, max)]
    latest = {e["system"]: e for e in entries if e.get("scale") is not None}
    for place, system in enumerate(systems):
        if system in latest:
            name = _of_system(record, "scale × uncertainty", system, systems)
            color = INK if len(systems) == 1 else color_of(place)
            traces += _fit(latest[system], ends, name, color)
    layout = {
        "xaxis": axis("uncertainty (meV/Å)", log=True),
        "yaxis": axis("true error (meV/Å)", log=True),
    }
    return Figure(
        key,
        title,
        "How far the members disagree on a structure, and the true error of their mean there (both "
        "of the atom for which it is largest, or as the uncertainty measure has it). The line is "
        "true error = scale × uncertainty with its 95 % interval, fitted to the last sanity "
        "checks, which are chosen without regard to their uncertainty. Points near the line, and a "
        "rank correlation near 1, mean that the threshold picks the right structures; a scale far "
        "above 1, that the members agree more than they are right.",
        [Panel(traces, layout)],
        tables=list(_fits(record, latest)),
    )


def _measured(
    record: RunRecord, entries: Sequence[Entry], systems: Sequence[int | str]
) -> Iterator[Trace]:
    """Uncertainties and true errors, by system and by why they were measured."""
    for place, system in enumerate(systems):
        for counts, name, symbol in (
            (False, "threshold crossed", "circle-open"),
            (True, "sanity check", "circle"),
        ):
            of_it = [e for e in entries if e["counts"] is counts and e["system"] == system]
            some = [of_it[k] for k in thinned(len(of_it))]
            if some:
                yield points(
                    rounded(1000 * entry["uncertainty"] for entry in some),
                    rounded(1000 * entry["true_error"] for entry in some),
                    _of_system(record, name, system, systems),
                    color_of(place),
                    marker={"size": 6, "opacity": 0.8, "symbol": symbol},
                )


def _of_system(
    record: RunRecord, name: str, system: int | str, systems: Sequence[int | str]
) -> str:
    return name if len(systems) == 1 else f"{name}, {record.system_name(system)}"


def _fit(entry: Entry, ends: Sequence[float], name: str, color: str) -> Iterator[Trace]:
    x = rounded(1000 * end for end in ends)
    band = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    for share, fill in (("low", {}), ("high", {"fill": "tonexty", "fillcolor": "band"})):
        y = rounded(1000 * entry[share] * end for end in ends)
        yield {"type": "scatter", "x": x, "y": y, **band, **fill}
    yield line(x, rounded(1000 * entry["scale"] * end for end in ends), name, color)


def _fits(record: RunRecord, latest: Mapping[int | str, Entry]) -> Iterator[Table]:
    if not latest:
        return
    header = ["system", "sanity checks", "scale", "95 % interval", "within 1×", "within 2×"]
    rows = [
        [
            record.system_name(system),
            str(entry["n_pairs"]),
            f"{entry['scale']:.3g}",
            f"{entry['low']:.3g} to {entry['high']:.3g}",
            f"{100 * entry['within_1']:.0f} %",
            f"{100 * entry['within_2']:.0f} %",
            "–" if entry["spearman"] is None else f"{entry['spearman']:.2f}",
        ]
        for system, entry in latest.items()
    ]
    yield Table([*header, "rank correlation"], rows)
