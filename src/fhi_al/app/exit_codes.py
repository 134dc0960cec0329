"""Exit codes of the commands, and which error has which.

0 done, 1 engine or program failure, 2 wrong input, 3 stopped and restartable.
"""

from __future__ import annotations

DONE, FAILED, WRONG_INPUT, STOPPED = 0, 1, 2, 3


def exit_code(error: BaseException) -> int | None:
    """Code of an error that a run may end with; None for one that nobody has foreseen.

    Those with a code are raised on rank 0 between two calls that all ranks take part in, or on all
    ranks alike.
    """
    # Late: where nothing fails, nothing is imported.
    from fhi_al.core.errors import CannotCompute, EngineError, InputError
    from fhi_al.labels.store import LabelStoreError
    from fhi_al.process.soft_stop import Stopped
    from fhi_al.settings import SettingsError
    from fhi_al.storage.checkpoint import SnapshotError
    from fhi_al.storage.folder_lock import FolderInUse

    if isinstance(error, Stopped):
        return STOPPED
    wrong_inputs = CannotCompute | InputError | SettingsError
    wrong_folder = SnapshotError | LabelStoreError | FolderInUse
    if isinstance(error, wrong_inputs | wrong_folder):
        return WRONG_INPUT
    return FAILED if isinstance(error, EngineError | OSError) else None
