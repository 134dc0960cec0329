"""Which of the files in ``model/`` are the models to be used."""

from __future__ import annotations

from pathlib import Path

from fhi_al.models.file_names import best_model, final_models, member_model, with_compiled


def test_the_converged_member_alone_where_one_was_converged(tmp_path: Path) -> None:
    members = [member_model(tmp_path, "water", seed) for seed in (2, 10)]
    for path in members:
        path.touch()
        with_compiled(path).touch()
    (tmp_path / "README.md").touch()
    assert final_models(tmp_path) == sorted(members)
    best = best_model(tmp_path, "water")
    best.touch()
    with_compiled(best).touch()
    assert final_models(tmp_path) == [best]
    assert final_models(tmp_path / "nowhere") == []
