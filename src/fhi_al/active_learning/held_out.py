"""The test set: points that nothing is decided by.

Owns ``state.test``.  No member ever sees these points: they are in none of its sets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fhi_al.active_learning.options import SplitOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.core.label import Label, LabelSets
from fhi_al.core.split import goes_to_test
from fhi_al.labels.store import LabelStore

log = logging.getLogger(__name__)


class HeldOut:
    """The test set of a run.

    Parameters
    ----------
    progress : Progress
    members : sequence of LabelSets
        It shares no point with them.
    store : LabelStore
    options : SplitOptions
    """

    def __init__(
        self,
        progress: Progress,
        members: Sequence[LabelSets],
        store: LabelStore,
        options: SplitOptions,
    ) -> None:
        self._progress = progress
        self._members = members
        self.store = store
        self._options = options

    def labels(self) -> list[Label]:
        """The points, in the order in which they were held out."""
        return [self.store.label(key) for key in self._progress.state.test]

    def unseen(self) -> list[Label]:
        """Those that no member has in its sets.

        A sanity check may have become a point of the sets by a later crossing.
        """
        return [label for label in self.labels() if not self._is_known(label)]

    def claims(self, label: Label, n_before: int) -> bool:
        """Whether a point is a test point.

        Parameters
        ----------
        label : Label
        n_before : int
            Points of this phase before it, test points included.
        """
        if label.key in self._progress.state.test:  # the same structure again
            return True
        return goes_to_test(n_before, self._options.test_ratio) and not self._is_known(label)

    def keep(self, label: Label) -> None:
        """Hold a point out from here on."""
        if label.key not in self._progress.state.test:
            self._progress.update(test=(*self._progress.state.test, label.key))

    def keep_point(self, label: Label, trajectory: int, md_step: int) -> None:
        """Hold out, and count, a point of active learning."""
        self.keep(label)
        self._progress.update_active(n_test=self._progress.active.n_test + 1)
        log.info(
            "sweep %d, trajectory %d, MD step %d: point is held out for the test (%d so far)",
            self._progress.active.sweep,
            trajectory,
            md_step,
            self._progress.active.n_test,
        )

    def keep_sanity_check(self, label: Label) -> None:
        """Hold the point of a sanity check out, which joins no set: it costs no further label.

        Not where points join by their error: what is left is then what the ensemble knew.
        """
        unbiased = self._options.sanity_checks_are_unbiased
        if self._options.test_ratio > 0 and unbiased and not self._is_known(label):
            self.keep(label)

    def _is_known(self, label: Label) -> bool:
        return any(
            label.key == known.key
            for member in self._members
            for known in (*member.training, *member.validation)
        )
