"""What importing fhi_al changes in the process: imports_state.py [MODULE...].

Without modules: the names of all others that are loaded when ours have been imported, in order.
With them: those are imported first, then ours, and what is then not as it was is told.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[2]))
import fhi_al


def import_ours() -> None:
    for module in pkgutil.walk_packages(fhi_al.__path__, "fhi_al."):
        importlib.import_module(module.name)


if len(sys.argv) == 1:
    import_ours()
    found: object = [
        name
        for name, module in sys.modules.items()
        if isinstance(module, ModuleType)
        and name.partition(".")[0] not in ("fhi_al", "__main__", "__mp_main__")
    ]
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sys.argv[1:]:
            with suppress(ImportError):  # made by its parent
                importlib.import_module(name)
    from process_state import differences, process_state

    state = process_state()
    unsteady = differences(state, process_state())
    import_ours()
    found = [unsteady, differences(state, process_state())]
os.write(1, f"\nRESULT {json.dumps([0, found])}\n".encode())
