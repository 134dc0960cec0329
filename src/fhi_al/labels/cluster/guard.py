"""``python -m fhi_al.labels.cluster.guard PID MODULE``: run a module as long as a process lives.

Parsl's interchange would go on for ever after a driver that was killed; and a Ctrl-C, which asks
the driver to stop softly, would end it at once were it in the same session.
"""

from __future__ import annotations

import os
import runpy
import sys

from fhi_al.labels.cluster.processes import end_with


def main() -> None:
    """Run the module named in the arguments as ``__main__``."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    os.setsid()
    end_with(parent)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
