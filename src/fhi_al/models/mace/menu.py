"""MACE's menu of foundation models: their names, licences, where MACE keeps and fetches them."""

from __future__ import annotations

import queue
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mace.calculators import mace_mp, mace_off, mace_omol
from mace.calculators.foundations_models import mace_mp_urls, mace_off_urls
from mace.tools.utils import get_cache_dir

from fhi_al.models.mace import quiet_mace

MIT = "MIT licence"
ASL = (
    "Academic Software License (ASL, https://github.com/gabor1/ASL), which permits no commercial"
    " use"
)
# Of MACE's materials models; those of other names are under the MIT licence.
_ACADEMIC = ("omat", "matpes", "mh-")
_OMOL = "mace_omol"
# MACE has it inside a function.
_OMOL_URL = (
    "https://github.com/ACEsuit/mace-foundations/releases/download/mace_omol_0/"
    "MACE-omol-0-extra-large-1024.model"
)


@dataclass(frozen=True)
class MenuModel:
    """A foundation model that MACE has a name for.

    Parameters
    ----------
    name : str
        As MACE's own ``--foundation_model`` takes it.
    url : str
        Where MACE fetches it from.
    licence : str
    restricted : bool
        Whether the licence permits less than any use.
    """

    name: str
    url: str
    licence: str
    restricted: bool

    @property
    def cached(self) -> Path:
        """Where MACE keeps the fetched file; it need not be there."""
        name = self.url.partition("?")[0].rpartition("/")[2]
        if self.url in mace_mp_urls.values():
            name = "".join(c for c in name if c.isalnum() or c == "_")
        return Path(get_cache_dir()) / name

    def problem(self, timeout_s: float) -> str | None:
        """Why it cannot be had, or None if it is there or its server answers."""
        if self.cached.is_file():
            return None
        why = fetch_problem(self.url, timeout_s)
        if why is None:
            return None
        return (
            f"the model {self.name} is not at {self.cached} and cannot be fetched ({why}). Download"
            f" {self.url} where there is a network and put it at that path"
        )

    def fetched(self) -> Path:
        """Where the file is, fetched by MACE if it was not there."""
        if not self.cached.is_file():
            with quiet_mace():
                if self.name == _OMOL:
                    mace_omol(device="cpu", return_raw_model=True)
                elif self.url in mace_off_urls.values():
                    size = self.name.partition("_")[0]
                    mace_off(model=size, device="cpu", return_raw_model=True)
                else:
                    mace_mp(model=self.name, device="cpu", return_raw_model=True)
        return self.cached


@cache
def menu() -> Mapping[str, MenuModel]:
    """All models by name: those that MACE's training command can fine-tune, but polar ones."""
    found = {}
    for name, url in mace_mp_urls.items():
        restricted = any(part in name for part in _ACADEMIC)
        found[name] = MenuModel(name, url, ASL if restricted else MIT, restricted)
    for size, url in mace_off_urls.items():
        found[f"{size}_off"] = MenuModel(f"{size}_off", url, ASL, True)
    found[_OMOL] = MenuModel(_OMOL, _OMOL_URL, ASL, True)
    return found


def fetch_problem(url: str, timeout_s: float) -> str | None:
    """Why `url` cannot be fetched, or None if its server answers within `timeout_s` seconds."""
    answers: queue.Queue[str | None] = queue.Queue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout_s):
                answers.put(None)
        except OSError as error:
            answers.put(f"{type(error).__name__}: {error}")

    # In a thread: looking up the server's name knows no timeout.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=timeout_s + 1)
    except queue.Empty:
        return f"no answer within {timeout_s:.0f} s"
