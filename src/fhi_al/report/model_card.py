"""README.md beside exported models: what they are, for who has the files and not the run.

Pure text: touches no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ase.data import chemical_symbols

from fhi_al.core.reported_errors import ReportedErrors, contradictions

MACE = "mace"
_LOAD = """\
```python
from mace.calculators import MACECalculator

atoms.calc = MACECalculator(model_paths={files}, device="cpu")
```
"""
_SEVERAL = """
Energies and forces are then the mean of the members; `atoms.calc.results["forces_comm"]` has the
forces of each, whose spread says how far they can be trusted.
"""
_CITE = """\
* MACE: I. Batatia, D. P. Kovács, G. N. C. Simm, C. Ortner, G. Csányi, MACE: Higher Order
  Equivariant Message Passing Neural Networks for Fast and Accurate Force Fields, NeurIPS 2022,
  arXiv:2206.07697.
"""


@dataclass(frozen=True)
class ModelCard:
    """What is known of exported models.

    Parameters
    ----------
    name : str
        GENERAL.name_exp.
    kind : str
        ``model_backend``.
    reference : str
        What computed the labels.
    files : sequence of str
        The models' names; if one member only was converged, its own.
    elements : sequence of int
        Atomic numbers that the models know.
    r_max : float
        Cutoff in A.
    dtype : str
        Precision of the models.
    energies : mapping
        Name of a member -> E0 of each element, in eV, as the models add them.
    n_labels : int
    errors : ReportedErrors or None
        None where none were measured.
    date : str
    versions : mapping
        Package -> version.
    """

    name: str
    kind: str
    reference: str
    files: Sequence[str]
    elements: Sequence[int]
    r_max: float
    dtype: str
    energies: Mapping[str, Sequence[float]]
    n_labels: int
    errors: ReportedErrors | None
    date: str
    versions: Mapping[str, str]

    def text(self) -> str:
        """As Markdown."""
        return "\n".join(self._lines()).rstrip() + "\n"

    def _lines(self) -> Iterator[str]:
        symbols = [chemical_symbols[number] for number in self.elements]
        yield f"# {self.name}: models of kind {self.kind}"
        yield ""
        yield "| | |\n|---|---|"
        yield f"| models | {', '.join(f'`{file}`' for file in self.files)} |"
        yield f"| elements | {', '.join(symbols)} |"
        yield f"| cutoff | {self.r_max:g} A |"
        yield f"| precision | {self.dtype} |"
        yield f"| labels | {self.n_labels}, by {self.reference} |"
        yield f"| date | {self.date} |"
        yield "\nUnits: eV, A. The models know structures like those they were trained on, not the"
        yield "elements at large."
        yield "\n## Errors\n"
        yield from self._errors()
        yield "\n## Energies of isolated atoms (E0s, eV)\n"
        yield from self._energies(symbols)
        yield "\n## How to load\n"
        yield from self._loading()
        yield "\n## Versions\n"
        yield ", ".join(f"{package} {version}" for package, version in self.versions.items())
        yield "\n## How to cite\n"
        yield (_CITE if self.kind == MACE else "") + (
            "* FHI_AL, which trained the models: CITATION.cff of its repository.\n"
            "* The reference method and its program, as its authors ask."
        )

    def _errors(self) -> Iterator[str]:
        if self.errors is None:
            yield "Not measured: the models were not trained."
            return
        if self.errors.test is not None:
            yield f"* in MD of the models themselves, the true error: {self.errors.test}"
        yield f"* on each member's own validation points: {self.errors.validation}"
        yield f"* on all points that a member has not trained on: {self.errors.unseen}"
        for message in contradictions(self.errors):
            yield f"* WARNING: {message}"

    def _energies(self, symbols: Sequence[str]) -> Iterator[str]:
        rows = dict(self.energies)
        if len({tuple(row) for row in rows.values()}) == 1:
            rows = {"all members": next(iter(rows.values()))}
        yield f"| | {' | '.join(symbols)} |"
        yield "|---" * (len(symbols) + 1) + "|"
        for name, row in rows.items():
            yield f"| {name} | {' | '.join(f'{energy:.9g}' for energy in row)} |"

    def _loading(self) -> Iterator[str]:
        if self.kind == MACE:
            yield _LOAD.format(files=list(self.files)) + (_SEVERAL if len(self.files) > 1 else "")
        else:
            yield f"By the package that brings `{self.kind}`, with FHI_AL."
