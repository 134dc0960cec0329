"""The report as one HTML file: text, tables, and figures with what draws them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files

from fhi_al.report.page.errors import error_figures
from fhi_al.report.page.figures import Figure, Table
from fhi_al.report.page.labels import label_figures
from fhi_al.report.page.learning import learning_figures
from fhi_al.report.page.md import md_figures
from fhi_al.report.page.timeline import timeline_figures
from fhi_al.report.page.verdict import verdict
from fhi_al.report.page.words import asked, came_out, tiles
from fhi_al.report.record import RunRecord

# Key, title, figures.
_SECTIONS: tuple[tuple[str, str, Callable[[RunRecord], Iterator[Figure]]], ...] = (
    ("learning", "Learning curves", learning_figures),
    ("errors", "Errors of the models", error_figures),
    ("labels", "Labels", label_figures),
    ("md", "Molecular dynamics", md_figures),
    ("time", "Time", timeline_figures),
)
# Nothing is loaded from anywhere, whatever a file's name or a setting may hold.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)


def report_html(record: RunRecord) -> str:
    """The page of a run.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    str
        HTML that needs no other file and no network.
    """
    sections = [(key, title, list(make(record))) for key, title, make in _SECTIONS]
    figures = [figure for _, _, of_it in sections for figure in of_it]
    links = [(key, title) for key, title, _ in sections] + [("inputs", "Inputs")]
    body = [
        _head(record, links),
        *(_section(key, title, of_it) for key, title, of_it in sections),
        _inputs(record),
        f"<footer>Made by FHI_AL {escape(version('fhi-al'))} on "
        f"{time.strftime('%Y-%m-%d %H:%M')}. Figures: plotly.js (MIT licence).</footer>",
    ]
    # Whatever is in it, it must not end the element.
    data = json.dumps(_drawings(figures), separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(record.name)} – FHI_AL report</title>\n"
        f"<style>{_asset('report.css')}</style></head>\n<body>\n"
        + "\n".join(body)
        + f'\n<script type="application/json" id="figures">{data}</script>\n'
        f"<script>{_asset('plotly-basic.min.js')}</script>\n"
        f"<script>{_asset('report.js')}</script>\n</body></html>\n"
    )


def _asset(name: str) -> str:
    return (files("fhi_al.report.page") / "assets" / name).read_text(encoding="utf-8")


def _drawings(figures: Iterable[Figure]) -> dict[str, object]:
    return {
        f"{figure.key}-{k}": {"data": list(panel.traces), "layout": panel.layout}
        for figure in figures
        for k, panel in enumerate(figure.panels)
    }


def _head(record: RunRecord, links: Sequence[tuple[str, str]]) -> str:
    found = verdict(record)
    numbers = "".join(
        f'<div class="tile"><b>{escape(number)}</b> <span>{escape(unit)}</span>'
        f"<small>{escape(what)}</small></div>"
        for number, unit, what in tiles(record)
    )
    warnings = "".join(f"<li>{escape(message)}</li>" for message in found.warnings)
    menu = " ".join(f'<a href="#{key}">{escape(title)}</a>' for key, title in links)
    return (
        f"<header><p class=kind>FHI_AL report</p><h1>{escape(record.name)}</h1>"
        f"<nav>{menu}</nav></header>\n"
        f'<section class="verdict {found.kind}" id="verdict"><h2>{escape(found.headline)}</h2>'
        f"<p>{escape(found.text)}</p>"
        + (f"<ul>{warnings}</ul>" if warnings else "")
        + f'</section>\n<div class="tiles">{numbers}</div>\n<div class="two">'
        f"<section><h2>What was asked</h2>{_list(asked(record))}</section>"
        f"<section><h2>What came out</h2>{_list(came_out(record))}</section></div>"
    )


def _list(pairs: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs)
    return f"<dl>{items}</dl>" if items else "<p>Not known before the first snapshot.</p>"


def _section(key: str, title: str, figures: Sequence[Figure]) -> str:
    inside = "\n".join(map(_figure, figures))
    return f'<section id="{key}"><h2>{escape(title)}</h2>\n{inside}</section>'


def _figure(figure: Figure) -> str:
    tables = "".join(map(_table, figure.tables))
    title = f"<h3>{escape(figure.title)}</h3>"
    if figure.missing:
        text = f'<p class="missing">Left out. {escape(figure.missing)}</p>'
        return f'<div class="figure" id="{figure.key}">{title}{text}{tables}</div>'
    panels = "".join(
        f'<div class="panel" id="{figure.key}-{k}" role="img" '
        f'aria-label="{escape(figure.title)}"></div>'
        for k in range(len(figure.panels))
    )
    return (
        f'<figure class="figure" id="{figure.key}">{title}<div class="panels">{panels}</div>'
        f"<figcaption>{escape(figure.caption)}</figcaption>{tables}</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _inputs(record: RunRecord) -> str:
    versions = _table(Table(["package", "version"], list(record.versions.items())))
    texts = "".join(
        f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"
        for name, text in record.inputs
    )
    missing = '<p class="missing">Left out. inputs/ is not in the folder: a run writes it.</p>'
    return (
        f'<section id="inputs"><h2>Inputs and versions</h2>{texts or missing}'
        f"{versions if record.versions else ''}</section>"
    )
