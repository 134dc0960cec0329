"""``python -m fhi_al.labels.cluster.guard PID MODULE``: run a module as long as a process lives.

Parsl's interchange would go on for ever after a driver that was killed.  And what asks the driver
to stop softly would end it at once, before the driver has finished its step: a Ctrl-C, were it in
the same session, and what Slurm sends to all processes of a job (``--signal``, ``scancel``).
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

from fhi_al.labels.cluster.processes import end_with

REQUESTS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Run the module named in the arguments as ``__main__``."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    os.setsid()
    # Before any other thread is there: all of them have it from this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    threading.Thread(target=_end_if_asked_by, args=(parent,), daemon=True).start()
    end_with(parent)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_if_asked_by(parent: int) -> None:
    while signal.sigwaitinfo(REQUESTS).si_pid != parent:
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
