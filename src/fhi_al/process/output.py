"""Standard output and error that may go away: a closed pipe or a terminal that was hung up.

A run goes on without those who watched it; its log files have everything.  Other errors of the
streams, such as a full disk, stay errors.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO


class _Output:
    """A stream whose reader may go away; what is written from then on is dropped.

    So is what others write to the same descriptor: a Fortran library stops at a closed pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._kept: int | None = None  # a copy of the descriptor that leads nowhere

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop_after(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop_after(error)

    def put_back(self) -> None:
        """The descriptor leads where it led."""
        with suppress(OSError):  # reported when the stream is closed, at the latest
            self.flush()
        if self._kept is not None:
            os.dup2(self._kept, self._stream.fileno())
            os.close(self._kept)

    def _drop_after(self, error: OSError) -> None:
        hung_up = self._is_terminal and error.errno == errno.EIO
        if not (hung_up or error.errno == errno.EPIPE) or self._kept is not None:
            raise error
        self._kept = os.dup(self._stream.fileno())
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        self._stream.flush()


@contextmanager
def output_that_may_close() -> Iterator[None]:
    """Let standard output and error go away without an error."""
    before = sys.stdout, sys.stderr
    with Path(os.devnull).open("w") as nowhere:
        # None: it was closed before this process began; libraries expect a stream all the same.
        streams = [_Output(stream or nowhere) for stream in before]
        sys.stdout, sys.stderr = streams
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in streams:
                stream.put_back()
