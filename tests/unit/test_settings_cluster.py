"""ACTIVE_LEARNING.cluster: keys below a key, with the same care as all others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_settings_bad_inputs import AL, GOOD_AL, GOOD_MACE, MACE, problems_of

from fhi_al.app import atomic_energies, checks
from fhi_al.app import cluster_options as cluster
from fhi_al.app.needs import Needs
from fhi_al.core.errors import InputError
from fhi_al.engines.registry import engine_specs
from fhi_al.engines.spec import AimsCommandSpec, AseSpec
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.settings import Settings, read_settings
from fhi_al.settings.changes import changes
from fhi_al.settings.cluster import read_scheduler_options

WITH = GOOD_AL + "  parallel: true\n"  # 4 lines
AIMS = (
    "ACTIVE_LEARNING:\n  max_set_size: 50\n  parallel: true\n  species_dir: species\n"
    "  cluster:\n"
)  # 5 lines


def settings_of(folder: Path, al: str) -> Settings:
    (folder / MACE).write_text(GOOD_MACE)
    (folder / AL).write_text(al)
    return read_settings(folder)


def test_without_the_key_there_is_no_cluster(tmp_path: Path) -> None:
    assert settings_of(tmp_path, GOOD_AL).al.cluster is None


def test_keys_below_the_key_become_the_options_of_the_cluster(tmp_path: Path) -> None:
    text = (
        "  cluster:\n    provider: SLURM\n    workers_per_node: 2\n    max_blocks: 3\n"
        "    walltime: 01:30:00\n    partition: short\n    job_timeout: 6e2\n    attempts: 1.0e1\n"
        "    scheduler_options: |\n      #SBATCH --mem=3G\n      #SBATCH --qos=low\n"
        "    worker_init: |\n      module load aims\n    nodes_per_block: 4\n    launcher: srun\n"
    )
    settings = settings_of(tmp_path, WITH + text)
    assert cluster.cluster_options(settings) == ClusterOptions(
        provider="slurm",
        workers_per_node=2,
        max_blocks=3,
        walltime_s=5400,
        partition="short",
        job_timeout_s=600.0,
        attempts=10,
        scheduler_options="#SBATCH --mem=3G\n#SBATCH --qos=low",
        worker_init="module load aims",
        nodes_per_block=4,
        launcher="srun",
    )
    assert "ACTIVE_LEARNING.cluster.provider = SLURM: read as slurm." in settings.notes


@pytest.mark.parametrize("text", ["  cluster: {}\n", "  cluster: {provider: local}\n"])
def test_every_key_of_a_cluster_has_a_default(tmp_path: Path, text: str) -> None:
    settings = settings_of(tmp_path, WITH + text)
    assert cluster.cluster_options(settings) == ClusterOptions()


def test_a_cluster_written_and_read_again_is_the_same(tmp_path: Path) -> None:
    text = (
        "  cluster:\n    provider: slurm\n    walltime: 04:00:00\n    account: '1e5'\n"
        '    worker_init: "a: b\\nc"\n'
    )
    settings = settings_of(tmp_path, WITH + text)
    again = settings_of(tmp_path, settings.as_yaml("active_learning"))
    assert again.al == settings.al
    assert again.al.cluster is not None and again.al.cluster.account == "1e5"


# What follows `cluster:` in line 5, and the one problem it must give: line, key, words.
TABLE = [
    ("\n    max_job: 3\n", 6, "cluster.max_job", "Did you mean max_jobs?"),
    ("\n    temperature: 3\n", 6, "cluster.temperature", "It belongs in MD."),
    ("\n    max_jobs: 3\n    max_jobs: 4\n", 7, "cluster.max_jobs", "already given in line 6"),
    ("\n    max_jobs: 0\n", 6, "cluster.max_jobs", "= 0: must be at least 1"),
    ("\n    max_jobs: many\n", 6, "cluster.max_jobs", "must be a whole number"),
    ("\n    provider: pbs\n", 6, "cluster.provider", "must be one of local, slurm"),
    ("\n    provider: slrum\n", 6, "cluster.provider", "Did you mean slurm?"),
    ("\n    job_timeout: -1\n", 6, "cluster.job_timeout", "must be above 0 s. Try 3600"),
    ("\n    lost_after: 1\n", 6, "cluster.lost_after", "must be at least 4 s. Try 120"),
    (
        "\n    provider: slurm\n    walltime: 4h\n",
        7,
        "cluster.walltime",
        "must be a time HH:MM:SS, such as 04:00:00",
    ),
    (
        "\n    provider: slurm\n    walltime: 00:30:00\n    job_timeout: 1800\n",
        8,
        "cluster.job_timeout",
        "must be below walltime = 00:30:00 = 1800 s",
    ),
    (
        "\n    provider: slurm\n    walltime: 01:00:00\n",
        None,
        "cluster.job_timeout",
        "= 3600.0 (the default): must be below walltime",
    ),
    ("\n    provider: slurm\n    partition: a b\n", 7, "cluster.partition", "must be one word"),
    (
        "\n    provider: slurm\n    scheduler_options: --mem=3G\n",
        7,
        "cluster.scheduler_options",
        "every line must begin with '#SBATCH '",
    ),
    ("\n    partition: short\n", 6, "cluster.partition", "only with cluster.provider: slurm"),
    (" local\n", 5, "cluster", "must be keys below it, such as provider: local"),
    (" [1]\n", 5, "cluster", "must be keys below it"),
]


@pytest.mark.parametrize("character", ["\f", "\v", "\x85", "\u2028"], ids=ascii)
def test_a_scheduler_option_ends_where_the_shell_ends_it(character: str) -> None:
    option = f"#SBATCH --comment=a{character}b"
    assert read_scheduler_options(option) == option


@pytest.mark.parametrize(("text", "line", "key", "words"), TABLE, ids=lambda v: str(v)[:30])
def test_a_slip_below_the_key_is_found_with_its_line(
    tmp_path: Path, text: str, line: int | None, key: str, words: str
) -> None:
    (problem,) = problems_of(tmp_path, al=WITH + "  cluster:" + text)
    assert (problem.line, problem.key) == (line, f"ACTIVE_LEARNING.{key}")
    assert words in problem.message
    assert f"ACTIVE_LEARNING.{key}" in problem.message


def test_a_key_of_the_cluster_in_the_wrong_place_is_sent_there(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, al=WITH + "  partition: short\n")
    assert "It belongs in ACTIVE_LEARNING.cluster." in problem.message


def test_a_cluster_needs_parallel(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, al=GOOD_AL + "  cluster: {}\n")
    assert (problem.line, problem.key) == (4, "ACTIVE_LEARNING.cluster")
    assert "Set parallel: true" in problem.message


def test_with_a_cluster_fhi_aims_is_a_command_and_no_library(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, al=AIMS + "    provider: local\n")
    assert problem.key == "ACTIVE_LEARNING.cluster.aims_command"
    assert "the aims engine needs what runs its executable" in problem.message
    both = AIMS + "    aims_command: srun aims.x\n  aims_lib_path: libaims.so\n"
    (problem,) = problems_of(tmp_path, al=both)
    assert (problem.line, problem.key) == (7, "ACTIVE_LEARNING.aims_lib_path")
    assert "Keep one of the two" in problem.message


def test_what_has_no_effect_on_a_cluster_is_noted(tmp_path: Path) -> None:
    text = "  cluster:\n    provider: local\n    partition: short\n  scf_warm_start: true\n"
    notes = " ".join(settings_of(tmp_path, WITH + text).notes)
    assert "ACTIVE_LEARNING.cluster.partition = short: has no effect" in notes
    assert "ACTIVE_LEARNING.scf_warm_start = true: has no effect with cluster" in notes


def test_a_run_may_move_to_another_cluster(tmp_path: Path) -> None:
    before = settings_of(tmp_path, WITH).values()
    now = settings_of(tmp_path, WITH + "  cluster: {max_blocks: 2}\n").values()
    allowed, refused = changes(before, now)
    assert not refused
    assert len(allowed) == 1 and allowed[0].startswith("ACTIVE_LEARNING.cluster: None -> ")


WATER = "atom 0 0 0.12 O\natom 0 0.76 -0.48 H\natom 0 -0.76 -0.48 H\n"
CONTROL = "xc pbe\nspecies O\n  nucleus 8\nspecies H\n  nucleus 1\n"


def inputs_of(folder: Path, al: str) -> tuple[Settings, checks.Inputs]:
    (folder / "geometry.in").write_text(WATER)
    (folder / "control.in").write_text(CONTROL)
    settings = settings_of(folder, al)
    return settings, checks.read_inputs(settings)


def test_the_specs_are_the_executable_or_the_calculator_from_a_cold_start(tmp_path: Path) -> None:
    text = AIMS + "    aims_command: srun -n 4 '/opt apps/aims.x'\n"
    (aims,) = engine_specs(tmp_path, *inputs_of(tmp_path, text))
    assert isinstance(aims, AimsCommandSpec)
    assert aims.command == ("srun", "-n", "4", "/opt apps/aims.x")
    assert aims.control.startswith("xc pbe\n") and "compute_forces .true." in aims.control
    text = WITH + "  cluster: {}\n  scf_warm_start: true\n"
    (xtb,) = engine_specs(tmp_path, *inputs_of(tmp_path, text))
    assert isinstance(xtb, AseSpec) and xtb.cold_start


def test_a_check_finds_a_command_that_is_not_there(tmp_path: Path) -> None:
    mace_sampling = "  initial_sampling: aimd\n"
    text = AIMS + "    aims_command: no_such_aims.x\n" + mace_sampling
    settings, inputs = inputs_of(tmp_path, text)
    with pytest.raises(InputError) as caught:
        checks.check(tmp_path, settings, inputs)
    (problem,) = caught.value.problems
    assert problem.startswith(
        f"{AL}:6: ACTIVE_LEARNING.cluster.aims_command = no_such_aims.x: there is no program"
    )
    good = text.replace("no_such_aims.x", sys.executable)
    checks.check(tmp_path, *inputs_of(tmp_path, good))
    # Modules that are loaded first may bring it.
    later = text.replace(mace_sampling, "    worker_init: module load aims\n" + mace_sampling)
    checks.check(tmp_path, *inputs_of(tmp_path, later))


def test_a_check_finds_that_there_is_no_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = AIMS + "    provider: slurm\n    aims_command: aims.x\n  initial_sampling: aimd\n"
    with pytest.raises(InputError) as caught:
        checks.check(tmp_path, *inputs_of(tmp_path, text))
    (problem,) = caught.value.problems
    assert "ACTIVE_LEARNING.cluster.provider = slurm: there is no sbatch here" in problem


@pytest.mark.parametrize("name", ["with space", "it's", "a&b"])
def test_a_check_finds_folders_that_no_block_can_be_started_in(tmp_path: Path, name: str) -> None:
    """Workers would never begin, and the run would wait for its labels."""
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "plain-1.2_\u00e4").mkdir()
    text = WITH + "  initial_sampling: aimd\n  cluster: {provider: local}\n"
    checks.check(tmp_path / "plain-1.2_\u00e4", *inputs_of(tmp_path, text))
    with pytest.raises(
        InputError, match=r"blocks cannot be started in .*Rename or move the folder"
    ):
        checks.check(folder, *inputs_of(tmp_path, text))


def test_atoms_that_are_no_jobs_need_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch
    settings, inputs = inputs_of(tmp_path, WITH + "  cluster: {provider: slurm}\n")
    with pytest.raises(InputError, match="there is no sbatch here"):
        checks.check(tmp_path, settings, inputs, Needs(False, False, True, True, False))
    assert "isolated atoms: H" in "\n".join(atomic_energies.checked(tmp_path, None))
