"""Where the small foundation model is, and what else belongs to it.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class SmallFoundation:
    """A foundation model of H, C, N, O and Si that ``make_small_foundation.py`` made.

    Parameters
    ----------
    weights : Path
        Settings and weights, as ``fhi_al.models.mace.weights_file`` writes them.
    model : Path
        The same model as MACE saves it.
    known_structures : Path
        GFN1-xTB labels of molecules and crystals that it knows, on which it was not trained.
    """

    weights: Path
    model: Path
    known_structures: Path


def with_model(folder: Path) -> SmallFoundation:
    """The shipped weights, and the same as a file of MACE's own in a folder."""
    import torch

    from fhi_al.models.mace.weights_file import read_weights

    found = SmallFoundation(
        HERE / "small_foundation.npz",
        folder / "small_foundation.model",
        HERE / "known_structures.xyz",
    )
    torch.save(read_weights(found.weights), found.model)
    return found
