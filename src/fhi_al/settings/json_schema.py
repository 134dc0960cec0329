"""JSON schemas of the two settings files, for editors: made from the models of the sections.

A schema knows the keys, their types, bounds and choices; rules between keys are for ``--check``.
The reader takes more spellings than a schema lists (``1e-3`` as text, upper and lower case).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic.json_schema import models_json_schema

from fhi_al.settings import engine_names, model_backends, plugins
from fhi_al.settings.keys import FILE_NAMES, LAYOUTS, LISTS, OTHER_SPELLINGS, keys_of
from fhi_al.settings.model_backends import declaration
from fhi_al.settings.retired import KEYS, RENAMED, SUPERSEDED
from fhi_al.settings.value_types import Section

FileKind = Literal["mace", "active_learning"]
KINDS: tuple[FileKind, ...] = get_args(FileKind)
FOLDER = Path(__file__).parent / "schema"
DRAFT = "http://json-schema.org/draft-07/schema#"
# The first line of a settings file, behind the # of a comment: what editors look for.
MODELINE = "yaml-language-server: $schema="

Schema = dict[str, Any]


def schema_path(kind: FileKind) -> Path:
    """Where the schema that is shipped lies."""
    return FOLDER / Path(FILE_NAMES[kind]).with_suffix(".json").name


def schema_line(kind: FileKind) -> str:
    """The comment, without its #, that names the shipped schema to editors."""
    path = schema_path(kind)
    # A blank would end it.
    return MODELINE + (path.as_uri() if " " in str(path) else str(path))


def with_schema_line(text: str, kind: FileKind) -> str:
    """A settings file that names the schema shipped here, in place of another one if it does."""
    first, _, rest = text.partition("\n")
    return f"# {schema_line(kind)}\n" + (rest if MODELINE in first else text)


def file_schema(kind: FileKind, *, packages: bool = False) -> Schema:
    """The schema of a settings file.

    Parameters
    ----------
    kind : {"mace", "active_learning"}
    packages : bool
        With the engines and kinds of models that installed packages bring.
    """
    engines = engine_names.of_packages() if packages else ()
    layout = LAYOUTS[kind]
    models = list(layout.values())
    others = _architectures() if packages and kind == "mace" else []
    keys = _engine_keys(engines) if kind == "active_learning" else {}
    _, made = models_json_schema(
        [(model, "validation") for model in (*models, *others, *keys.values())]
    )
    definitions: Schema = {name: _tidied(each) for name, each in made["$defs"].items()}
    sections = {name: _section(name, model) for name, model in layout.items()}
    if others:
        references = [_reference(model) for model in (layout["ARCHITECTURE"], *others)]
        sections["ARCHITECTURE"] = {"anyOf": [*references, {"type": "null"}]}
    if kind == "active_learning":
        _name_engines(definitions[layout["ACTIVE_LEARNING"].__name__], engines, keys)
    _add_old_keys(kind, definitions)
    spellings = {old: sections[new] for old, new in OTHER_SPELLINGS.items() if new in sections}
    return {
        "$schema": DRAFT,
        "title": FILE_NAMES[kind],
        "type": "object",
        "properties": sections | spellings,
        "additionalProperties": False,
        "definitions": definitions,
    }


def _reference(model: type[Section]) -> Schema:
    return {"$ref": f"#/definitions/{model.__name__}"}


def _section(name: str, model: type[Section]) -> Schema:
    """A section: its keys, or a list of blocks of them where there may be several."""
    forms: list[Schema] = [_reference(model), {"type": "null"}]
    if name in LISTS:
        forms.append({"type": "array", "items": _reference(model), "minItems": 1})
    if name == "MD":  # by trajectory, 0: 1: ..., as older files have it
        numbered = {"patternProperties": {"^[0-9]+$": _reference(model)}}
        forms.append(
            {"type": "object", **numbered, "additionalProperties": False, "minProperties": 1}
        )
    return {"anyOf": forms}


def _tidied(node: Any) -> Any:
    """As pydantic makes it, in draft 7: units and defaults go to where editors show them."""
    if isinstance(node, list):
        return [_tidied(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        reference = {"$ref": node["$ref"].replace("#/$defs/", "#/definitions/")}
        about = _about(node)
        return {**about, "allOf": [reference]} if about else reference
    names = ("title", "unit", "try", "shown_default", "description", "properties")
    tidied = {key: _tidied(value) for key, value in node.items() if key not in names}
    if "properties" in node:  # whose keys may be called as words of a schema
        tidied["properties"] = {key: _tidied(each) for key, each in node["properties"].items()}
    forms = tidied.get("anyOf", [])
    if {"type": "null"} in forms:  # the reader takes both
        tidied["anyOf"] = [*forms, {"const": "None"}]
    return {**_about(node), **tidied}


def _about(node: Mapping[str, Any]) -> Schema:
    """What an editor shows of a key."""
    parts = [" ".join(str(node.get("description", "")).split())]
    if node.get("unit"):
        parts.append(f"({node['unit']})")
    if node.get("shown_default"):
        parts.append(f"Default: {node['shown_default']}.")
    text = " ".join(part for part in parts if part)
    return {"description": text} if text else {}


def _architectures() -> list[type[Section]]:
    """The section ARCHITECTURE of each kind of models that a package brings."""
    names = set(plugins.of_packages(model_backends.GROUP).names) - set(model_backends.BUILT_IN)
    return [declaration(name).architecture for name in sorted(names)]


def _engine_keys(engines: Sequence[str]) -> dict[str, type[Section]]:
    """Models of ``reference_arguments`` of those engines that have one."""
    found = {}
    for name in engines:
        for point in plugins.of_packages(engine_names.GROUP).select(name=name):
            model = getattr(plugins.imported(point.value), "keys", None)
            if isinstance(model, type) and issubclass(model, Section):
                found[name] = model
    return found


def _name_engines(
    section: Schema, engines: Sequence[str], keys: Mapping[str, type[Section]]
) -> None:
    """Propose the names of engines; another name may be that of a package elsewhere."""
    names = [*engine_names.BUILT_IN, *engines]
    for key, known in (("reference_engine", names), ("model_backend", ["mace"])):
        about = section["properties"][key]
        del about["type"]
        about["anyOf"] = [{"enum": known}, {"type": "string"}]
    if keys:
        section["allOf"] = [
            {
                "if": {
                    "properties": {"reference_engine": {"const": name}},
                    "required": ["reference_engine"],
                },
                "then": {"properties": {engine_names.ARGUMENTS: _reference(model)}},
            }
            for name, model in keys.items()
        ]


def _add_old_keys(kind: FileKind, definitions: Schema) -> None:
    """Keys of older files, which are still read; editors strike them out."""
    for section, model in LAYOUTS[kind].items():
        properties = definitions[model.__name__]["properties"]
        for label, now in RENAMED.items():
            within, _, old = label.partition(".")
            if within == section and now in keys_of(model):
                properties[old] = {**properties[now], "deprecated": True}
                properties[old]["description"] = f"The old name of {now}."
        for label in SUPERSEDED:
            within, _, key = label.partition(".")
            if within == section and key in properties:
                properties[key]["deprecated"] = True
        if kind == "mace":
            for key, (_, reason) in KEYS.items():
                properties[key] = {"description": f"No effect: {reason}.", "deprecated": True}


def schema_text(kind: FileKind, *, packages: bool = False) -> str:
    """The schema as it is written to a file."""
    return json.dumps(file_schema(kind, packages=packages), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas that are shipped, or with ``--check`` say whether they are current."""
    parser = argparse.ArgumentParser(
        prog="python -m fhi_al.settings.json_schema", description=__doc__
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="write them there instead, with the engines and models of installed packages",
    )
    options = parser.parse_args(arguments)
    outdated = 0
    for kind in KINDS:
        path = schema_path(kind) if options.to is None else options.to / schema_path(kind).name
        text = schema_text(kind, packages=options.to is not None)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        outdated = 1
        if options.check:
            sys.stderr.write(f"{path}: outdated: run python -m fhi_al.settings.json_schema\n")
        else:
            path.write_text(text, encoding="utf-8")
    return outdated if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
