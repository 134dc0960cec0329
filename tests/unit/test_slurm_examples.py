"""The Slurm scripts: shell that runs, layouts that add up, a job that is put into the queue again.

``srun``, ``scontrol`` and ``FHI_AL`` are stand-ins that write down how they were called.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "slurm"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
NAMES = [script.name for script in SCRIPTS]

STAND_IN = """#!/bin/bash
echo "${0##*/} $*" >> "$CALLS"
"""
SRUN = STAND_IN + 'echo "OMP_NUM_THREADS=$OMP_NUM_THREADS" >> "$CALLS"\nexit "$SRUN_CODE"\n'
SCONTROL = (
    STAND_IN
    + """if [ "$1" = show ]; then printf 'node%s\\n' 1 2 3 4 5; fi
"""
)
# A step that runs its command once for each of some ranks, as srun would for all.
SRUN_RANKS = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
for rank in 0 2 3 63; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@"; done
"""


@dataclass(frozen=True)
class Called:
    """What became of a script."""

    code: int
    calls: list[str]


def start(
    script: Path, folder: Path, *, srun_code: int = 0, check_code: int = 0, restarts: int = 0,
    srun: str = SRUN, program: str = STAND_IN,
) -> Called:  # fmt: skip
    programs = folder / "bin"
    programs.mkdir()
    stand_ins = {"srun": srun, "scontrol": SCONTROL, "FHI_AL": f"{program}exit {check_code}\n"}
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    calls = folder / "calls.txt"
    calls.touch()
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SRUN_CODE": str(srun_code),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[1-5]",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    run = subprocess.run(
        ["bash", str(script)], cwd=folder, env=variables, capture_output=True, timeout=20
    )
    return Called(run.returncode, calls.read_text().splitlines())


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, pattern
    return int(found[1])


def test_the_readme_names_every_script() -> None:
    assert len(SCRIPTS) >= 3
    linked = re.findall(r"\]\((\w+\.sh)\)", (FOLDER / "README.md").read_text())
    assert sorted(linked) == NAMES


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_it_is_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_the_layout_in_its_head_adds_up(script: Path) -> None:
    text = script.read_text()
    n_ranks = sum(map(int, re.findall(r"^#SBATCH --ntasks=(\d+)", text, re.MULTILINE)))
    training = number(r"^#     training_ranks: (\d+)", text)
    groups = number(r"^#     reference_groups: (\d+)", text)
    first, second = re.findall(r"^#   ranks (\d+)-(\d+) ", text, re.MULTILINE)
    assert (int(first[0]), int(first[1])) == (0, training - 1)
    assert (int(second[0]), int(second[1])) == (training, n_ranks - 1)
    group_words = {1: "one FHI-aims group of", 4: "four FHI-aims groups of"}[groups]
    per_group = number(rf"{group_words} (\d+) ranks", text)
    assert training + groups * per_group == n_ranks
    assert re.search(r"^#     parallel: true$", text, re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_directives_come_before_the_first_command(script: Path) -> None:
    lines = script.read_text().splitlines()
    # Slurm reads no directive after the first line that is not a comment.
    first_command = next(k for k, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [k for k, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(directives) < first_command
    for wanted in ("--signal=USR1@300", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {wanted}" in lines


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_a_finished_run_is_not_queued_again(script: Path, tmp_path: Path) -> None:
    called = start(script, tmp_path)
    assert called.code == 0
    assert called.calls[0] == "FHI_AL --check"
    step = next(k for k, call in enumerate(called.calls) if call.startswith("srun "))
    assert "FHI_AL" in " ".join(called.calls[step:])
    assert "OMP_NUM_THREADS=1" in called.calls
    assert "scontrol requeue 77" not in called.calls


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
@pytest.mark.parametrize(
    ("code", "restarts", "again"), [(3, 0, 1), (3, 20, 0), (1, 0, 0), (2, 0, 0)]
)
def test_only_a_stopped_run_is_queued_again(
    script: Path, tmp_path: Path, code: int, restarts: int, again: int
) -> None:
    called = start(script, tmp_path, srun_code=code, restarts=restarts)
    assert called.code == code
    assert called.calls.count("scontrol requeue 77") == again


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_wrong_inputs_cost_no_core_hour(script: Path, tmp_path: Path) -> None:
    called = start(script, tmp_path, check_code=2)
    assert (called.code, called.calls) == (2, ["FHI_AL --check"])


def test_groups_are_put_on_nodes_of_their_own(tmp_path: Path) -> None:
    srun = SRUN.replace("exit", 'cp "$SLURM_HOSTFILE" hosts_seen.txt\nexit')
    called = start(FOLDER / "several_nodes.sh", tmp_path, srun=srun)
    assert called.code == 0
    hosts = (tmp_path / "hosts_seen.txt").read_text().split()
    assert hosts == ["node1"] * 3 + [f"node{k}" for k in (2, 3, 4, 5) for _ in range(64)]


def test_each_training_rank_sees_its_own_gpu_and_the_others_none(tmp_path: Path) -> None:
    program = '#!/bin/bash\necho "$SLURM_PROCID:$CUDA_VISIBLE_DEVICES" >> "$CALLS"\n'
    called = start(FOLDER / "gpu_one_node.sh", tmp_path, srun=SRUN_RANKS, program=program)
    assert called.calls[1:] == ["0:0", "2:2", "3:", "63:"]
