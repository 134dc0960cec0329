"""The keys themselves: complete, documented, and with MACE's own names, choices and defaults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic.fields import FieldInfo

from fhi_al.settings.checked_file import LAYOUTS, keys_of
from fhi_al.settings.glossary import BEGIN, END, glossary_markdown, main
from fhi_al.settings.keys import value_at
from fhi_al.settings.value_types import Choice

SPECIFIED = {
    "mace": {
        "GENERAL": "name_exp log_dir checkpoints_dir results_dir model_dir default_dtype"
        " compute_stress seed",
        "ARCHITECTURE": "atomic_energies model r_max num_channels max_L max_ell radial_type"
        " num_radial_basis num_cutoff_basis interaction num_interactions correlation radial_MLP"
        " gate MLP_irreps interaction_first compute_avg_num_neighbors",
        "TRAINING": "valid_fraction batch_size valid_batch_size weight_decay scaling lr amsgrad"
        " optimizer scheduler lr_scheduler_gamma lr_factor scheduler_patience swa start_swa swa_lr"
        " swa_energy_weight swa_forces_weight swa_stress_weight swa_virials_weight ema ema_decay"
        " max_num_epochs loss energy_weight forces_weight virials_weight stress_weight huber_delta"
        " config_type_weights patience clip_grad eval_interval",
        "MISC": "device keep_checkpoints restart_latest error_table log_level",
    },
    "active_learning": {
        "ACTIVE_LEARNING": "desired_acc lambda n_samples valid_ratio converge_initial converge_al"
        " converge_best scheduler_initial max_initial_epochs max_epochs_worker max_final_epochs"
        " intermediate_epochs patience margin max_MD_steps max_set_size valid_skip sanity_skip"
        " ensemble_size c_x dataset_dir skip_step_initial skip_step_mlff num_trajectories"
        " species_dir aims_lib_path analysis initial_sampling initial_foundational_size parallel"
        " reference_engine scf_warm_start md_forces uncertainty_type threshold_warmup"
        " threshold_window sanity_action",
        "MD": "stat_ensemble thermostat temperature timestep friction seed pressure",
        "MISC": "create_restart",
    },
}
ALL_KEYS = [
    pytest.param(kind, section, key, info, id=f"{section}.{key}")
    for kind, layout in LAYOUTS.items()
    for section, model in layout.items()
    for key, info in keys_of(model).items()
]


def test_every_specified_key_exists_in_its_section() -> None:
    for kind, sections in SPECIFIED.items():
        assert set(sections) == set(LAYOUTS[kind]) - {"SYSTEMS"}  # of ours
        for section, keys in sections.items():
            assert set(keys.split()) <= set(keys_of(LAYOUTS[kind][section])), section


@pytest.mark.parametrize(("kind", "section", "key", "info"), ALL_KEYS)
def test_every_key_is_documented_and_its_default_passes_its_own_validation(
    kind: str, section: str, key: str, info: FieldInfo
) -> None:
    assert info.description
    assert info.description.rstrip().endswith(".")
    default = info.get_default(call_default_factory=True)
    block = LAYOUTS[kind][section].model_validate({key: default})
    assert value_at(block, key) == default
    assert f"| `{key}` |" in glossary_markdown()


def test_the_original_fixture_holds_every_key_of_the_original_program() -> None:
    folder = Path(__file__).parent / "settings_files" / "original"
    ours = {
        "pressure",
        "reference_engine",
        "scf_warm_start",
        "md_forces",
        "uncertainty_type",
        "threshold_warmup",
        "threshold_window",
        "sanity_action",
        "start_swa",
        "swa_lr",
        "swa_energy_weight",
        "swa_forces_weight",
        "swa_stress_weight",
        "swa_virials_weight",
        "huber_delta",
    }
    for kind, sections in SPECIFIED.items():
        data = yaml.safe_load((folder / f"{kind}_settings.yaml").read_text())
        data["ACTIVE_LEARNING"] = data.pop("ACTIVE LEARNING", None)
        for section, keys in sections.items():
            assert set(keys.split()) - ours <= set(data[section])


def rewritten(text: str, tmp_path: Path, *options: str) -> tuple[int, str]:
    file = tmp_path / "README.md"
    file.write_text(text, encoding="utf-8")
    return main([str(file), *options]), file.read_text(encoding="utf-8")


def test_the_glossary_replaces_only_what_is_between_its_markers(tmp_path: Path) -> None:
    code, text = rewritten(f"before\n{BEGIN}\nstale text\n{END}\nafter\n", tmp_path)
    assert code == 0
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "stale text" not in text
    assert "| `c_x` | float | `0.0` |" in text
    assert "(eV/A; >= 0) |" in text
    assert rewritten(text, tmp_path, "--check") == (0, text)
    assert rewritten(text.replace("`c_x`", "`c_y`"), tmp_path, "--check")[0] == 1
    assert rewritten("no markers\n", tmp_path)[0] == 2


def test_the_glossary_does_not_depend_on_the_machine() -> None:
    code = "from fhi_al.settings.glossary import glossary_markdown as g; print(g(), end='')"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"OMP_NUM_THREADS": threads, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for threads in ("1", "7")
    }
    assert texts == {glossary_markdown()}


# Our default is not the number in MACE's parser, because:
NOT_MACES_DEFAULT = {
    "freeze": "the parser says None; counts with fine_tuning: frozen only",
    "lora_alpha": "the parser says 1; docs/reference/benchmarks.md, fine-tuning",
    "enable_cueq": "the parser knows true and false; what is compared first may be taken",
    "scheduler_patience": "the parser says 50; within the patience of a convergence it has to fire",
    "ema": "the parser says False; docs/reference/benchmarks.md, defaults of training",
    "batch_size": "the parser says 10; docs/reference/benchmarks.md, defaults of training",
    "num_channels": "the parser says None and check_args makes it 128, tested below",
    "max_L": "the parser says None and check_args makes it 1, tested below",
    "log_dir": "the parser says None and makes it <work_dir>/logs",
    "checkpoints_dir": "the parser says None and makes it <work_dir>/checkpoints",
    "results_dir": "the parser says None and makes it <work_dir>/results",
    "model_dir": "the parser says None, the work_dir; the specification says model/",
}
NOT_IN_MACE = {
    *("fit_atomic_energies", "name_exp", "atomic_energies"),
    *("num_threads", "compile_final", "cuda_graphs"),
    *("foundation_elements", "accept_licence", "fine_tuning"),
    *("replay_file", "replay_structures", "replay_batch", "readouts", "readout_noise"),
}


def mace_keys() -> dict[str, FieldInfo]:
    return {k: v for model in LAYOUTS["mace"].values() for k, v in keys_of(model).items()}


def maces_own(key: str, value: Any) -> Any:
    """Our value in the form MACE's parser has it in."""
    if key == "radial_MLP":
        return str(list(value))
    if key == "config_type_weights":
        return '{"Default":1.0}' if value == {"Default": 1.0} else value
    return value


@pytest.mark.real
def test_defaults_are_maces_own() -> None:
    from mace.tools.arg_parser import build_default_arg_parser
    from mace.tools.arg_parser_tools import check_args

    parser = build_default_arg_parser()
    parsed = parser.parse_args(["--name=x"])
    checked = check_args(parser.parse_args(["--name=x"]))[0]
    for key, info in mace_keys().items():
        if key in NOT_IN_MACE or key in NOT_MACES_DEFAULT:
            continue
        ours = maces_own(key, info.get_default(call_default_factory=True))
        assert ours == getattr(parsed, key), key
    assert not any(hasattr(parsed, key) for key in NOT_IN_MACE)
    for key in ("num_channels", "max_L"):
        assert mace_keys()[key].default == getattr(checked, key), key


@pytest.mark.real
def test_choices_are_maces_own() -> None:
    import mace.modules
    from mace.tools.arg_parser import build_default_arg_parser

    actions = {action.dest: action for action in build_default_arg_parser()._actions}
    compared = set()
    for key, info in mace_keys().items():
        marks = [mark for mark in info.metadata if isinstance(mark, Choice)]
        choices = getattr(actions.get(key), "choices", None)
        if marks and choices:
            # What MACE knows is either taken or refused with a reason: nothing new goes unseen.
            assert {*get_args(info.annotation), *marks[0].refused} == set(choices), key
            compared.add(key)
    assert compared == {
        *("default_dtype", "model", "radial_type", "interaction", "interaction_first", "gate"),
        *("scaling", "optimizer", "loss", "error_table"),
    }
    keys = mace_keys()
    assert set(get_args(keys["interaction"].annotation)) == set(mace.modules.interaction_classes)
    assert set(get_args(keys["gate"].annotation)) == set(mace.modules.gate_dict)
    assert set(get_args(keys["scaling"].annotation)) - {"no_scaling"} == set(
        mace.modules.scaling_classes
    ) - {"rms_dipoles_scaling"}


@pytest.mark.real
def test_schedulers_are_maces_own() -> None:
    import torch
    from mace.tools.arg_parser import build_default_arg_parser
    from mace.tools.scripts_utils import LRScheduler

    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    for name in get_args(mace_keys()["scheduler"].annotation):
        arguments = build_default_arg_parser().parse_args(["--name=x", f"--scheduler={name}"])
        assert type(LRScheduler(optimizer, arguments).lr_scheduler).__name__ == name


def test_thermostats_exist_in_the_md_engine() -> None:
    from fhi_al.md.integrators import THERMOSTATS

    keys = keys_of(LAYOUTS["active_learning"]["MD"])
    assert set(THERMOSTATS) - {None} == set(get_args(keys["thermostat"].annotation))


def test_uncertainty_measures_exist() -> None:
    from fhi_al.core.uncertainty import MEASURES, UncertaintyType

    keys = keys_of(LAYOUTS["active_learning"]["ACTIVE_LEARNING"])
    named = set(get_args(keys["uncertainty_type"].annotation))
    assert named == set(MEASURES) == set(get_args(UncertaintyType))


def test_thermostats_exist_in_python() -> None:
    import fhi_al
    from fhi_al.md.integrators import THERMOSTATS

    for name in set(THERMOSTATS) - {None}:
        given = getattr(fhi_al, str(name))(temperature_K=200.0).keys()
        found = LAYOUTS["active_learning"]["MD"].model_validate(given)
        assert (found.thermostat, found.temperature) == (name, 200.0)
