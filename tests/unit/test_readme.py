"""README and documentation say what is there: commands, options, keys, columns, pictures."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure
from PIL import Image

from fhi_al.report import tables
from fhi_al.settings.checked_file import LAYOUTS, keys_of
from fhi_al.settings.glossary import with_glossary

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "docs" / "reference"
COMMANDS = (REFERENCE / "commands.md").read_text(encoding="utf-8")
OUTPUTS = (REFERENCE / "outputs.md").read_text(encoding="utf-8")
SETTINGS = (REFERENCE / "settings.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
# For users: pages for developers and of benchmarks name other programs' options, too.
USERS_PAGES = [
    path
    for path in DOCUMENTS
    if path.name not in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks.md")
    and (ROOT / "docs" / "developer") not in path.parents
]
PICTURES = ("al_flowchart_example.png", "parallel_algorithm_flowchart.png")
SCRIPT = ROOT / "readme_figs" / "draw_flowcharts.py"
OTHER_PROGRAMS_OPTIONS = {
    "--signal",
    "--no-binary",
    "--cpu-bind",
    "--logdir",
    "--mpi",
    "--ntasks-per-node",
    "--requeue",
}


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_there_are_exactly_two_commands_for_a_fresh_machine() -> None:
    commands = re.findall(
        r"```bash\n(.*?)\n```", section("Two commands for a fresh machine"), re.DOTALL
    )
    assert commands == [
        'pip install -r requirements.txt ".[local]"'
        " && mpirun -n 2 FHI_AL --workdir examples/ethanol",
        'pip install -r requirements.txt -e ".[test]" && python -m pytest',
    ]


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 8192  # bytes


def test_the_glossary_is_that_of_the_code() -> None:
    command = "python -m fhi_al.settings.glossary docs/reference/settings.md"
    assert with_glossary(SETTINGS) == SETTINGS, f"outdated: {command}"


def test_the_commands_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"`(FHI_AL[a-z-]*)`", COMMANDS))
    assert named == set(project["scripts"])


def help_of(entry: str) -> str:
    program = f"import sys; from fhi_al.cli import {entry} as run; sys.exit(run(['--help']))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.mark.mpi
def test_every_option_exists_and_every_option_is_told() -> None:
    commands = ("main", "main_atomic_energies", "main_label")
    existing = set(re.findall(r"--[a-z]+", "".join(map(help_of, commands))))
    assert set(re.findall(r"--[a-z]+", COMMANDS)) == existing

    # Commands with a page of their own.
    with_a_page = ("main_init", "main_status", "main_completion", "main_evaluate")
    existing |= set(re.findall(r"--[a-z][a-z-]*", "".join(map(help_of, with_a_page))))
    for page in USERS_PAGES:
        # These have commands of benchmarks, and of other programs.
        if page.relative_to(ROOT).parts[:2] in (("docs", "explanation"), ("docs", "use")):
            continue
        others = r"<!--.*?-->|`python [^`]*`|^python .*$"
        text = re.sub(others, "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        told = set(re.findall(r"(?<![\w|-])--[a-z][a-z-]*", text))
        assert told <= existing | OTHER_PROGRAMS_OPTIONS, page


@pytest.mark.mpi
def test_every_option_of_evaluate_is_told_on_its_page() -> None:
    page = (ROOT / "docs" / "how_to" / "evaluate.md").read_text(encoding="utf-8")
    told = set(re.findall(r"--[a-z][a-z-]*", page.partition("## Options")[2]))
    existing = set(re.findall(r"--[a-z][a-z-]*", help_of("main_evaluate")))
    of_all = {"--workdir", "--check", "--set", "--version", "--help"}
    assert told | of_all == existing


def anchors(page: Path) -> list[str]:
    """Of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            page = document.parent / path if path else document
            assert page.exists(), target
            assert not anchor or anchor in anchors(page), target


def test_every_path_of_the_repository_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for path in re.findall(r"(?:examples|docs|readme_figs|tests|src)/[\w./-]*\w", text):
            made_by_a_run = re.search(r"/(model|data|analysis|results|inputs|restart)/", path)
            assert made_by_a_run or (ROOT / path).exists(), f"{document.name}: {path}"


def test_every_object_that_a_page_on_extending_names_exists() -> None:
    packages = [path.parent.name for path in (ROOT / "src" / "fhi_al").glob("*/__init__.py")]
    pattern = rf"`(?:fhi_al\.)?((?:{'|'.join(packages)})(?:\.(?!py\b)\w+)+)"
    pages = (ROOT / "docs" / "developer" / "extending").glob("*.md")
    found = [name for page in pages for name in re.findall(pattern, page.read_text())]
    assert len(found) > 10
    for name in found:
        pkgutil.resolve_name(f"fhi_al.{name}")


def test_every_key_that_is_named_with_its_section_exists() -> None:
    sections = {name: model for layout in LAYOUTS.values() for name, model in layout.items()}
    keys = {name: set(keys_of(model)) for name, model in sections.items()}
    keys["MISC"] |= set(keys_of(LAYOUTS["mace"]["MISC"]))
    pattern = r"\b(GENERAL|ARCHITECTURE|TRAINING|ACTIVE_LEARNING|MISC|MD)\.(\w+)"
    for page in USERS_PAGES:
        for name, key in re.findall(pattern, page.read_text(encoding="utf-8")):
            assert key in keys[name], f"{page}: {name}.{key}"


def test_the_columns_of_the_tables_are_those_that_are_written() -> None:
    outputs = " ".join(OUTPUTS.split())
    for _, columns in [tables._RESULTS["epoch"], *tables._ANALYSIS.values()]:
        assert ", ".join(columns) in outputs


def test_no_document_holds_a_path_of_a_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"/(home|root|work|opt|tmp)/", document.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_flowcharts", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pictures_were_drawn_by_the_script_as_it_is() -> None:
    origin = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()
    for name in PICTURES:
        with Image.open(SCRIPT.parent / name) as picture:
            assert picture.info["Source"] == origin, "run readme_figs/draw_flowcharts.py again"


@pytest.mark.skipif(
    tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11),
    reason="matplotlib before 3.11 sets letters at other places",
)
def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == set(PICTURES)
    for name in PICTURES:
        drawn, kept = image.imread(tmp_path / name), image.imread(SCRIPT.parent / name)
        assert drawn.shape == kept.shape
        assert drawn.shape[1] >= 1200 and drawn.shape[0] >= 800
        # Other versions of matplotlib and FreeType smooth letters otherwise: mean of 0 to 1.
        assert np.abs(drawn - kept).mean() < 0.005
        assert any(f"readme_figs/{name})" in page.read_text() for page in DOCUMENTS)


def overlapping_texts(figure: Figure) -> list[tuple[str, str]]:
    figure.canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [
        (a, b) for (a, of_a), (b, of_b) in itertools.combinations(boxes, 2) if of_a.overlaps(of_b)
    ]


@pytest.mark.parametrize("name", PICTURES)
def test_no_text_of_a_picture_covers_another_or_leaves_it(script: ModuleType, name: str) -> None:
    figure = script.PICTURES[name]()
    assert overlapping_texts(figure) == []
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        assert extent.x0 > 0 and extent.y0 > 0
        assert extent.x1 < figure.bbox.x1 and extent.y1 < figure.bbox.y1
