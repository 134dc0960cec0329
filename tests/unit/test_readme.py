"""The README says what is there: commands, options, keys, columns, paths, pictures."""

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
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
PICTURES = ("al_flowchart_example.png", "parallel_algorithm_flowchart.png")
SCRIPT = ROOT / "readme_figs" / "draw_flowcharts.py"
OTHER_PROGRAMS_OPTIONS = {"--signal", "--no-binary"}


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


def test_the_glossary_is_that_of_the_code() -> None:
    assert with_glossary(README) == README, "outdated: python -m fhi_al.settings.glossary README.md"


def test_the_commands_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"`(FHI_AL[a-z-]*)`", section("Commands")))
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
    assert set(re.findall(r"--[a-z]+", section("Commands"))) == existing
    text = re.sub(r"<!--.*?-->", "", README)
    assert set(re.findall(r"(?<![\w|-])--[a-z][a-z-]*", text)) <= existing | OTHER_PROGRAMS_OPTIONS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            heading = target[1:].replace("-", " ")
            assert f"\n## {heading}\n" in text.lower()
        elif not target.startswith("https://"):
            assert (document.parent / target).exists(), target


def test_every_path_of_the_repository_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for path in re.findall(r"(?:examples|docs|readme_figs|tests|src)/[\w./-]*\w", text):
            made_by_a_run = re.search(r"/(model|data|analysis|results|inputs|restart)/", path)
            assert made_by_a_run or (ROOT / path).exists(), f"{document.name}: {path}"


def test_every_object_that_a_page_on_extending_names_exists() -> None:
    packages = [path.parent.name for path in (ROOT / "src" / "fhi_al").glob("*/__init__.py")]
    pattern = rf"`(?:fhi_al\.)?((?:{'|'.join(packages)})(?:\.(?!py\b)\w+)+)"
    pages = (ROOT / "docs" / "extending").glob("*.md")
    found = [name for page in pages for name in re.findall(pattern, page.read_text())]
    assert len(found) > 10
    for name in found:
        pkgutil.resolve_name(f"fhi_al.{name}")


def test_every_key_that_is_named_with_its_section_exists() -> None:
    sections = {name: model for layout in LAYOUTS.values() for name, model in layout.items()}
    keys = {name: set(keys_of(model)) for name, model in sections.items()}
    keys["MISC"] |= set(keys_of(LAYOUTS["mace"]["MISC"]))
    found = re.findall(r"\b(GENERAL|ARCHITECTURE|TRAINING|ACTIVE_LEARNING|MISC|MD)\.(\w+)", README)
    assert found
    for name, key in found:
        assert key in keys[name], f"{name}.{key}"


def test_the_columns_of_the_tables_are_those_that_are_written() -> None:
    outputs = " ".join(section("What a run leaves on disk").split())
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


def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == set(PICTURES)
    for name in PICTURES:
        drawn, kept = image.imread(tmp_path / name), image.imread(SCRIPT.parent / name)
        assert drawn.shape == kept.shape
        assert drawn.shape[1] >= 1200 and drawn.shape[0] >= 800
        # Other versions of matplotlib and FreeType smooth letters otherwise: mean of 0 to 1.
        assert np.abs(drawn - kept).mean() < 0.005
        assert f"](readme_figs/{name})" in README


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
