"""Did the engine die on a structure, or was the run killed from outside?

A structure on which the engine dies is tried three times and then rejected.  A run that is killed
(time limit, node, SIGKILL) must end as if nothing had been, even if it is killed three times in the
same calculation.  So only a death of which the process itself has left a trace counts.

Owns ``restart/in_flight.json``, which names the structures being computed and the ranks at it, and
a file for each rank of an engine in ``restart/engine_trace/``:

* a fatal signal (SIGSEGV, SIGABRT, SIGFPE, ...) writes a traceback into it (faulthandler);
* MPI_Abort shows on standard error, which goes to the file during a call (MPICH and its kin say
  so themselves; Open MPI prints a stack with ``OMPI_MCA_mpi_abort_print_stack``, see cli);
* exit(), or a Fortran STOP, removes it: a handler of the C library, for no Python may run then.

Imports nothing heavy: every labelling rank uses it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fhi_al.core.errors import CannotCompute

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
RECORD, TRACES = "in_flight.json", "engine_trace"
STDERR = 2
_TRACE = re.compile(rb"Fatal Python error|mpi_abort", re.IGNORECASE)


class RankTrace:
    """On a rank of the engine: what it would leave behind if it died inside a call.

    Parameters
    ----------
    folder : Path
        ``restart/engine_trace``, there already.
    rank : int
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"rank_{rank}.txt"
        self._stream = self._path.open("ab", buffering=0)
        self._had_faulthandler = faulthandler.is_enabled()
        faulthandler.enable(self._stream)
        libc = ctypes.CDLL(None)
        libc.strdup.restype = ctypes.c_void_p
        # Not Python's memory: at a normal exit that is gone when the handler reads the name.
        self._name = ctypes.c_void_p(libc.strdup(os.fsencode(self._path)))
        at_exit = libc["__cxa_atexit"]  # as an attribute, Python would mangle its name
        at_exit(ctypes.cast(libc.unlink, ctypes.c_void_p), self._name, None)

    def close(self) -> None:
        """The engines are closed: from here on the process leaves no trace."""
        if self._had_faulthandler:
            faulthandler.enable(STDERR)  # where it was enabled it cannot tell
        else:
            faulthandler.disable()
        # The handler cannot be taken back; without a name it removes nothing.
        ctypes.memset(self._name, 0, 1)
        self._stream.close()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around a call of the engine: its standard error goes through the file."""
        with suppress(OSError):
            sys.stderr.flush()
        stderr = os.dup(STDERR)
        os.dup2(self._stream.fileno(), STDERR)
        try:
            yield
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os.dup2(stderr, STDERR)
            os.close(stderr)
            self._pass_on()

    def _pass_on(self) -> None:
        if os.fstat(self._stream.fileno()).st_size == 0:
            return
        output = self._path.read_bytes()
        self._stream.truncate(0)
        with suppress(OSError):  # nobody reads it
            os.write(STDERR, output)


@dataclass(frozen=True)
class InFlight:
    """A structure whose calculation is under way, or on which an engine died before.

    Parameters
    ----------
    key : str
        Of its geometry.
    ranks : tuple of int
        That take part in the call; none if it is not under way.
    crashes : int
        How often the engine died on it, or could not compute it.
    deaths : int
        How often the run ended during its calculation without a trace of the engine.
    """

    key: str
    ranks: tuple[int, ...]
    crashes: int = 0
    deaths: int = 0


class CallRecord:
    """On rank 0: the calls under way on disk, and what became of those that the last run died in.

    Parameters
    ----------
    restart : Path
        ``restart/``, of which this run holds the lock.
    last_output : callable
        Gives the engine's own last lines.
    """

    def __init__(self, restart: Path, last_output: Callable[[], str] = lambda: "") -> None:
        restart.mkdir(parents=True, exist_ok=True)
        self.traces = restart / TRACES
        self._path = restart / RECORD
        judged = (self._judged(call, last_output) for call in self._read())
        self._calls = {call.key: call for call in judged}
        shutil.rmtree(self.traces, ignore_errors=True)
        self.traces.mkdir()
        # Unbuffered and not fsynced: what a process has written stays when it dies, and a machine
        # that dies is no crash of the engine.
        self._stream = self._path.open("wb", buffering=0)
        self._write()

    def crashes(self, key: str) -> int:
        """How often the engine has died on this structure."""
        return self._calls[key].crashes if key in self._calls else 0

    def begin(self, key: str, ranks: Sequence[int]) -> None:
        """The calculation of a structure begins on these ranks."""
        call = self._calls.get(key, InFlight(key, ()))
        self._calls[key] = replace(call, ranks=tuple(ranks))
        self._write()

    def ended(self, key: str, error: Exception | None = None) -> None:
        """The calculation of a structure has ended; an error counts as a crash of the engine.

        But for one that says why there is nothing to compute: the engine is well.
        """
        if error is None or isinstance(error, CannotCompute):
            self.forget(key)
            return
        call = self._calls[key]
        self._calls[key] = replace(call, ranks=(), crashes=call.crashes + 1)
        self._write()

    def forget(self, key: str) -> None:
        """The structure is settled: it has a result, or was rejected."""
        if self._calls.pop(key, None) is not None:
            self._write()

    @contextmanager
    def of(self, key: str, ranks: Sequence[int]) -> Iterator[None]:
        """Around a call of the engine."""
        self.begin(key, ranks)
        try:
            yield
        except Exception as error:
            self.ended(key, error)
            raise
        self.ended(key)

    def close(self) -> None:
        """Close the file; nothing is left of it and the traces where there is nothing to tell."""
        self._stream.close()
        if not self._calls:
            self._path.unlink(missing_ok=True)
            shutil.rmtree(self.traces, ignore_errors=True)

    def _write(self) -> None:
        content = json.dumps([asdict(call) for call in self._calls.values()]).encode()
        if not self._calls:
            content = b""
        os.pwrite(self._stream.fileno(), content, 0)
        self._stream.truncate(len(content))

    def _read(self) -> list[InFlight]:
        try:
            content = json.loads(self._path.read_text())
            # Up to version 0.1 there was one call, on the first so many ranks.
            calls = [content] if isinstance(content, dict) else content
            return [InFlight(**{**call, "ranks": _ranks(call["ranks"])}) for call in calls]
        except (OSError, ValueError, TypeError, KeyError):
            return []

    def _judged(self, call: InFlight, last_output: Callable[[], str]) -> InFlight:
        """A call the last run ended in, with that death counted."""
        crashes, deaths = call.crashes, call.deaths
        if call.ranks and self._left_a_trace(call.ranks):
            crashes += 1
        elif call.ranks:  # else not begun again, or counted when it failed
            deaths += 1
        if crashes:
            output = last_output()
            log.warning(
                "the reference engine died on structure %s, attempt %d of %d%s",
                call.key,
                crashes,
                MOST_ATTEMPTS,
                f"; its last lines:\n{output}" if output else "",
            )
        if deaths >= MOST_ATTEMPTS and crashes < MOST_ATTEMPTS:
            log.warning(
                "%s: the run has ended %d times during the calculation of structure %s: if the "
                'engine dies on it and leaves no trace, set its "crashes" to %d in this file; the '
                "structure is then rejected",
                self._path,
                deaths,
                call.key,
                MOST_ATTEMPTS,
            )
        return InFlight(call.key, (), crashes, deaths)

    def _left_a_trace(self, ranks: Sequence[int]) -> bool:
        for rank in ranks:
            try:
                if _TRACE.search((self.traces / f"rank_{rank}.txt").read_bytes()):
                    return True
            except FileNotFoundError:
                return True
        return False


def _ranks(message: int | list[int]) -> tuple[int, ...]:
    return tuple(range(message)) if isinstance(message, int) else tuple(message)
