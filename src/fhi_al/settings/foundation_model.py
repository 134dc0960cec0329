"""Settings of a run whose models start from a foundation model, whose network they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fhi_al.settings.architecture import Architecture
from fhi_al.settings.problems import SettingsError, shown
from fhi_al.settings.resolved import Settings

SECTION = "ARCHITECTURE"


def with_architecture(settings: Settings, found: Mapping[str, Any]) -> Settings:
    """The settings with the network of the foundation model that they name.

    Parameters
    ----------
    settings : Settings
        With ``ARCHITECTURE.foundation_model``.
    found : mapping
        Values of the keys of ARCHITECTURE that describe the model.

    Raises
    ------
    SettingsError
        If keys in the file say otherwise, or the network is none that can be trained here.
    """
    assert settings.mace is not None
    given = settings.mace.architecture.model_dump(by_alias=True)
    name = given["foundation_model"]
    try:
        whole = Architecture.model_validate({**given, **found})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            [
                settings.problem(
                    "mace",
                    f"{SECTION}.foundation_model",
                    f"has {key} = {shown(first['input'])}, with which no model can be trained here:"
                    f" {first['msg']}. Use another model",
                )
            ]
        ) from error
    values = whole.model_dump(by_alias=True)
    problems = [
        settings.problem(
            "mace",
            f"{SECTION}.{key}",
            f"the foundation model {name} has {shown(values[key])}. Remove this key: the network is"
            " that of the model",
        )
        for key in found
        if f"{SECTION}.{key}" in settings.given("mace") and given[key] != values[key]
    ]
    if problems:
        raise SettingsError(problems)
    return settings.with_section("mace", SECTION, whole)
