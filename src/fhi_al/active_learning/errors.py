"""What can end a procedure early.  Imports nothing heavy."""

from __future__ import annotations

from fhi_al.core.errors import EngineError


class ProcedureFailure(EngineError):
    """Going on would be in vain; what was done so far is on the disk."""


class SamplingFailure(ProcedureFailure):
    """The sampling MD fails so often in a row that no new point comes."""


class AllRetired(ProcedureFailure):
    """No trajectory of active learning is left, and none came to its end."""


class TrainingFailure(ProcedureFailure):
    """Fewer than two members can be trained: there is no ensemble any more."""
