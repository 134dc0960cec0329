"""Byte-order marks, odd line ends and odd blanks: read as Fortran does, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.engines.aims_input.control import read_control
from fhi_al.engines.aims_input.engine_input import engine_input
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import read_geometry, write_geometry
from fhi_al.engines.aims_input.text import lines_of, tokens_of

BOM = "\ufeff"
# Line ends to str.splitlines(), characters like any other to Fortran.
NO_LINE_ENDS = ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
SPECIES = "species H\n  nucleus 1\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_at_lf_crlf_and_cr(end: str) -> None:
    text = end.join(["xc pbe", "", "# a", "spin none"])
    for given in (text, text + end):
        assert lines_of(given, Path("control.in")) == ["xc pbe", "", "# a", "spin none"]
    assert lines_of("", Path("control.in")) == []


@pytest.mark.parametrize("character", NO_LINE_ENDS, ids=ascii)
def test_a_comment_goes_on_to_the_end_of_its_line(character: str, tmp_path: Path) -> None:
    comment = f"# was:{character}charge 1\n"
    control = read_control(write(tmp_path / "control.in", "xc pbe\n" + comment))
    assert [keyword for _, keyword, _ in control.keywords()] == ["xc"]
    commented = comment.replace("charge 1", "  atom 0 0 1 O")
    geometry = read_geometry(write(tmp_path / "geometry.in", commented + "atom 0 0 0 H\n"))
    assert len(geometry.structure) == 1
    species = write(tmp_path / "01_H_default", comment.replace("charge 1", "species O") + SPECIES)
    made = engine_input(control, geometry, species.parent, stress=False)
    # Written with the comments as they were, each in one line.
    assert made.text.split("\n")[:2] == ["xc pbe", comment.rstrip("\n")]
    assert "\n" + species.read_bytes().decode() in made.text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_is_no_part_of_the_first_word(end: str, tmp_path: Path) -> None:
    def file(name: str, text: str) -> Path:
        return write(tmp_path / name, BOM + text.replace("\n", end))

    control = read_control(file("control.in", "xc pbe\n"))
    geometry = read_geometry(file("geometry.in", "atom 0 0 0 H\n  calculate_friction .true.\n"))
    file("01_H_default", SPECIES)
    made = engine_input(control, geometry, tmp_path, stress=False)
    assert made.text == (
        "xc pbe\n# Added by FHI_AL\ncompute_forces .true.\npostprocess_anyway .true.\n" + SPECIES
    )
    assert write_geometry(geometry).split("\n")[1:] == [
        "atom 0.0 0.0 0.0 H",
        "    calculate_friction .true.",
        "",
    ]


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u00a0", "U+00A0 (NO-BREAK SPACE)"),
        ("\u2028", "U+2028 (LINE SEPARATOR)"),
        ("\u200b", "U+200B (ZERO WIDTH SPACE)"),
        (BOM, "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("\f", "U+000C (a control character)"),
    ],
    ids=ascii,
)
def test_what_cannot_be_seen_outside_a_comment_is_named(
    character: str, name: str, tmp_path: Path
) -> None:
    def refused(path: Path) -> None:
        with pytest.raises(AimsInputError) as caught:
            if path.name == "geometry.in":
                read_geometry(path)
            elif path.name == "control.in":
                read_control(path)
            else:
                control = read_control(write(tmp_path / "control.in", "xc pbe\n"))
                geometry = read_geometry(write(tmp_path / "geometry.in", "atom 0 0 0 H\n"))
                engine_input(control, geometry, tmp_path, stress=False)
        assert caught.value.line == 2
        assert str(caught.value).startswith(f"{path}:2: {name} outside a comment")

    refused(write(tmp_path / "geometry.in", f"# here\natom{character}0 0 0 H\n"))
    refused(write(tmp_path / "control.in", f"# here\nxc{character}pbe\n"))
    refused(write(tmp_path / "01_H_default", f"# here\n{character}{SPECIES}"))


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "control.in"
    path.write_bytes(b"xc pbe\r\n# the cell is 5 \xc5 wide\r\n")
    with pytest.raises(AimsInputError, match=r"control\.in:2: is not UTF-8 text: .* as UTF-8\."):
        read_control(path)


def test_words_end_at_blanks_and_tabs_only() -> None:
    assert tokens_of(" a\tb  c\u00a0d\u2003e\f # f") == ["a", "b", "c\u00a0d\u2003e\f"]
