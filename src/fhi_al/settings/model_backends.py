"""Which kinds of models there are, and what each adds to the settings.  Imports no model code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fhi_al.settings.architecture import Architecture, ModelArchitecture
from fhi_al.settings.plugins import named

GROUP = "fhi_al.models"
BUILT_IN = {"mace": "fhi_al.settings.model_backends:MACE"}


@dataclass(frozen=True)
class ModelDeclaration:
    """What settings need to know of a model backend, without its code.

    Parameters
    ----------
    name : str
        As it is found by: what ``ACTIVE_LEARNING.model_backend`` says.
    backend : str
        Import path ``package.module:Class`` of the class, see
        :class:`fhi_al.models.interface.ModelBackend`.
    architecture : type of ModelArchitecture
        The section ARCHITECTURE.
    without : mapping
        Keys of the other sections that these models do not have (``MISC.compile_final``), and why.
    """

    name: str
    backend: str
    architecture: type[ModelArchitecture]
    without: Mapping[str, str] = field(default_factory=dict)


MACE = ModelDeclaration("mace", "fhi_al.models.mace.backend:MaceBackend", Architecture)


def declaration(given: object) -> ModelDeclaration:
    """The declaration of a backend.

    Parameters
    ----------
    given : str, ModelDeclaration or type
        ``mace``, an entry point of the group ``fhi_al.models``, or an import path
        ``package.module:name``: of a :class:`ModelDeclaration`, or of a backend class that has
        ``architecture`` and, if need be, ``without`` as attributes.  From Python also the
        declaration or the class itself.

    Raises
    ------
    ValueError
        If there is no such backend, or it cannot be imported where it will be used.
    """
    if isinstance(given, ModelDeclaration):
        return given
    found = named(GROUP, given, BUILT_IN) if isinstance(given, str) else given
    if isinstance(found, ModelDeclaration):
        return replace(found, name=str(given))
    architecture = getattr(found, "architecture", None)
    if (
        not isinstance(found, type)
        or not isinstance(architecture, type)
        or not issubclass(architecture, ModelArchitecture)
    ):
        raise ValueError(
            "is no model backend: expected a class whose attribute architecture is a"
            " ModelArchitecture (its section ARCHITECTURE), or a ModelDeclaration"
        )
    path = f"{found.__module__}:{found.__qualname__}"
    if not isinstance(given, str) and "." in found.__qualname__:
        raise ValueError(
            f"{path} cannot be imported by the ranks that train: expected a class that is defined"
            " at the top of a module"
        )
    name = given if isinstance(given, str) else path
    return ModelDeclaration(name, path, architecture, getattr(found, "without", {}))
