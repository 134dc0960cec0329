"""Functions of batches that are recorded once for each size and then replayed: CUDA graphs.

A small model's step is thousands of kernels, which a GPU finishes sooner than a CPU can launch
them; a recorded one is launched as a whole.  Owns the buffers that a recording reads, what is
padded into them, and the return to the plain way where recording fails.  Knows no model.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping

import torch

from fhi_al.models.graphs import Tensors
from fhi_al.models.out_of_memory import is_out_of_memory
from fhi_al.models.padding import BatchSizes, is_known, padded
from fhi_al.models.recorders import CudaRecorder, PlainRecorder, Recorder

log = logging.getLogger(__name__)

# Calls of a function as it is before it is recorded: they make what is made once (the optimizer's
# history, compiled code, workspaces of libraries), which must not be part of a recording.
PLAIN_CALLS = 2
# Of one function; one more, and all begin anew.  Batches of several systems are of many sizes: some
# 25 of five structures each of three small molecules.
MOST_RECORDINGS = 64


class Recordings:
    """Whether functions are recorded here, and by what; shared by all models of a device.

    Parameters
    ----------
    recorder : Recorder or None
        None: nothing is recorded.

    Attributes
    ----------
    is_on : bool
        Goes off for good when something could not be recorded.
    n_recorded : int
        Recordings made so far.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self.is_on = recorder is not None
        self.n_recorded = 0
        self._kept: weakref.WeakSet[Replayed] = weakref.WeakSet()

    def keep(self, replayed: Replayed) -> None:
        """Know of what is recorded, for :meth:`forget`."""
        self._kept.add(replayed)

    def forget(self, recorder: Recorder | None = None) -> bool:
        """Give up what was recorded, by one recorder or by all; it may be recorded again.

        Returns
        -------
        bool
            Whether there was any, or buffers for it.
        """
        affected = [one for one in self._kept if recorder in (None, one.recorder)]
        cleared = [replayed.clear() for replayed in affected]
        for each in {one.recorder for one in affected}:
            each.forget()
        return any(cleared)

    @property
    def replays(self) -> bool:
        """Steps must not look at numbers that differ from one to the next, but for tensors."""
        return self.is_on and self.recorder is not None and self.recorder.replays

    def takes(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether functions of this batch are to be recorded."""
        if self.is_on and not is_known(tensors):
            self._give_up("batches of this kind of models hold tensors that cannot be padded")
        return self.is_on

    def recorded(
        self, function: Callable[[], Tensors], recorder: Recorder
    ) -> Callable[[], Tensors] | None:
        """A function to be replayed, or None if it cannot be recorded.

        Where the memory does not suffice for it, others may still be; else this is logged, and
        nothing is recorded any more.
        """
        if not self.is_on:
            return None
        try:
            replay = recorder.record(function)
        except RuntimeError as raised:
            error = _first(raised)
            if not is_out_of_memory(error):
                self._give_up(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            return None
        self.n_recorded += 1
        return replay

    def _give_up(self, reason: str) -> None:
        self.is_on = False
        self.forget()
        log.warning(
            "CUDA graphs are not used from here on, which costs time and nothing else: %s. "
            "mace_settings.yaml: MISC.cuda_graphs: off saves the attempt",
            reason,
        )


def recordings_on(device: torch.device, wanted: str) -> Recordings:
    """How functions are recorded on a device.

    Parameters
    ----------
    device : torch.device
    wanted : str
        ``MISC.cuda_graphs``: ``auto`` (on NVIDIA's and AMD's GPUs) or ``off``.
    """
    return Recordings(CudaRecorder(device) if wanted == "auto" and device.type == "cuda" else None)


class Replayed:
    """A function of a batch, of padded sizes, replayed where it has been recorded.

    Parameters
    ----------
    function : callable
        A padded batch -> tensors.  All else that it changes, it changes in place, in tensors that
        stay where they are until :meth:`forget`; what it reads must not be waited for.
    recordings : Recordings
    r_max : float
        Cutoff of the model in A.
    recorder : Recorder, optional
        Instead of that of `recordings`.
    """

    def __init__(
        self,
        function: Callable[[Tensors], Tensors],
        recordings: Recordings,
        r_max: float,
        recorder: Recorder | None = None,
    ) -> None:
        given = recordings.recorder if recorder is None else recorder
        # Without one nothing is recorded, and this is not called.
        self.recorder: Recorder = PlainRecorder() if given is None else given
        self._function = function
        self._recordings = recordings
        recordings.keep(self)
        self._r_max = r_max
        self._by_sizes: dict[BatchSizes, _OfOneSize] = {}

    def __call__(self, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        """What the function gives for the batch when it is padded; of the caller's own."""
        sizes = BatchSizes.of(tensors).padded()
        whole = padded(tensors, sizes, self._r_max)
        if sizes in self._by_sizes:
            self._by_sizes[sizes].fill(whole)
        else:
            if len(self._by_sizes) == MOST_RECORDINGS:
                self.forget()
            self._by_sizes[sizes] = _OfOneSize(whole, self._function)
        found = self._by_sizes[sizes].run(self._recordings, self.recorder)
        return {name: tensor.detach().clone() for name, tensor in found.items()}

    def forget(self) -> None:
        """Record anew: tensors that the function uses, or numbers that are in it, are others.

        With all else that its recorder has recorded.
        """
        self._recordings.forget(self.recorder)

    def clear(self) -> bool:
        """Give up what is recorded of this function; see :meth:`Recordings.forget`."""
        was_used = bool(self._by_sizes)
        self._by_sizes.clear()
        return was_used


class _OfOneSize:
    """The buffers that a recording reads, and the recording when there is one."""

    def __init__(self, buffers: Tensors, function: Callable[[Tensors], Tensors]) -> None:
        self._buffers = buffers
        self._function = lambda: function(buffers)
        self._plain_calls = 0
        self._replay: Callable[[], Tensors] | None = None

    def fill(self, tensors: Tensors) -> None:
        with torch.no_grad():  # the function may have made some ask for gradients
            for name, buffer in self._buffers.items():
                buffer.copy_(tensors[name])

    def run(self, recordings: Recordings, recorder: Recorder) -> Tensors:
        if self._replay is None and self._plain_calls == PLAIN_CALLS:  # once
            self._replay = recordings.recorded(self._function, recorder)
        if self._replay is not None:
            return self._replay()
        found = recorder.run(self._function)
        self._plain_calls += 1  # of those for which the memory sufficed
        return found


def _first(error: BaseException) -> BaseException:
    """The first error: torch raises others on the way out of a recording."""
    while error.__context__ is not None:
        error = error.__context__
    return error
