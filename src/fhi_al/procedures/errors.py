"""What can end a procedure early.  Imports nothing heavy: the commands look at these first."""

from __future__ import annotations

from fhi_al.reference.engine import EngineError


class SamplingFailure(EngineError):
    """The sampling MD fails so often in a row that going on would be in vain."""


class NothingToStartFrom(Exception):
    """There is neither a finished initial phase in restart/ nor data and models on disk."""
