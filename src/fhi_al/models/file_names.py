"""Names of the files of finished models, and which of them are to be used."""

from __future__ import annotations

from pathlib import Path

BEST, COMPILED, MODEL = "_best", "_compiled", ".model"


def member_model(folder: Path, name: str, seed: int) -> Path:
    """Where the model of a member is written."""
    return folder / f"{name}_{seed}{MODEL}"


def best_model(folder: Path, name: str) -> Path:
    """Where the model of the one member that was converged is written."""
    return folder / f"{name}{BEST}{MODEL}"


def final_models(folder: Path) -> list[Path]:
    """The models of a run that are to be used: the converged one alone, if there is one.

    Their compiled forms are the same models, and left out.
    """
    found = sorted(path for path in folder.glob("*.model") if not path.stem.endswith(COMPILED))
    return [path for path in found if path.stem.endswith(BEST)] or found


def with_compiled(path: Path) -> Path:
    """Where the compiled form of a model is written: MACE's own naming."""
    return path.with_name(f"{path.stem}{COMPILED}{path.suffix}")
