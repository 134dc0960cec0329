"""Values written as YAML that our reader reads back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fhi_al.settings.yaml_reading import NUMBER


class _Dumper(yaml.SafeDumper):
    """Quotes texts that our reader, but not PyYAML, would take for numbers (``1e5``)."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def in_one_line(value: Any) -> str:
    """A value as YAML that :mod:`fhi_al.settings.yaml_reading` takes for the same value."""
    text = yaml.dump(
        _plain(value),
        Dumper=_Dumper,
        default_flow_style=True,
        width=float("inf"),
        sort_keys=False,
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return value
