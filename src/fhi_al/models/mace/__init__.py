"""The only home of ``import mace``: arguments, model, data, training and foundation models.

Owns the order of imports and the default dtype while MACE needs it; nothing outside this package
imports mace, e3nn or torch_ema.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

OLDEST_MACE = (0, 3, 16)
FIRST_UNTESTED_MACE = (1,)


@contextlib.contextmanager
def quiet_mace() -> Iterator[None]:
    """Keep MACE's build-time messages off the terminal and out of our logs.

    MACE talks through the root logger, whose first message would install a handler of its own.
    """
    root = logging.getLogger()
    placeholder = logging.NullHandler()
    root.addHandler(placeholder)
    before = root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # TorchScript annotations, weights_only, deprecated calls: nothing a user can fix.
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(placeholder)


def _check_version(version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if not OLDEST_MACE <= numbers < FIRST_UNTESTED_MACE:
        raise ImportError(
            f"mace-torch {version} is installed, FHI_AL is tested with >=0.3.16,<1. "
            "Install one of these: pip install 'mace-torch>=0.3.16,<1'"
        )


with quiet_mace():
    # mace before e3nn: e3nn's constants file cannot be read before mace has set torch's switch.
    from mace.__version__ import __version__ as MACE_VERSION  # noqa: N812

    _check_version(MACE_VERSION)
    import mace.data
    import mace.modules
    import mace.tools  # noqa: F401  (imported here so that their warnings stay here)
