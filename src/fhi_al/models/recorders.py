"""What records functions on a device and replays them, and what runs them in place of it.

Owns the streams and pools of memory of CUDA graphs.  Knows no batches: see
:mod:`fhi_al.models.cuda_graphs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

from fhi_al.models.graphs import Tensors


class Recorder(Protocol):
    """Runs functions that read and write tensors in place, and makes copies to be replayed."""

    @property
    def replays(self) -> bool:
        """What it records are operations on tensors: Python does not run again."""
        ...

    def apart(self) -> Recorder:
        """Another one: the device may do at the same time what the two are given."""
        ...

    def in_turn(self, tensors: Mapping[str, torch.Tensor]) -> AbstractContextManager[None]:
        """What is done in it, the device does after what it was told before, outside or inside.

        The tensors are made outside and read inside.  What is told it later outside need not come
        after it: see :meth:`join`.
        """
        ...

    def join(self) -> None:
        """What the device is told next, it does after all that was done in :meth:`in_turn`."""
        ...

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        """What a function gives, run as it is."""
        ...

    def record(self, function: Callable[[], Tensors]) -> Callable[[], Tensors]:
        """A callable that does again on the device what the function does now, on the same tensors.

        Its results are valid until it is called again.

        Raises
        ------
        RuntimeError
            If that cannot be recorded.
        """
        ...

    def forget(self) -> None:
        """Nothing that it has recorded is used any more."""
        ...


class PlainRecorder:
    """Runs functions in place of replaying them, on any device."""

    replays = False

    def apart(self) -> PlainRecorder:
        """See :meth:`Recorder.apart`; all is done at once."""
        return type(self)()

    def in_turn(self, tensors: Mapping[str, torch.Tensor]) -> AbstractContextManager[None]:
        """See :meth:`Recorder.in_turn`."""
        return nullcontext()

    def join(self) -> None:
        """See :meth:`Recorder.join`."""

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        """See :meth:`Recorder.run`."""
        return function()

    def record(self, function: Callable[[], Tensors]) -> Callable[[], Tensors]:
        """See :meth:`Recorder.record`."""
        return function

    def forget(self) -> None:
        """See :meth:`Recorder.forget`."""


class CudaRecorder:
    """Records CUDA graphs.

    All share one pool of memory: they are replayed one after the other, and what is to outlast a
    replay is copied.  All share workspaces of libraries, too, which torch takes away with the first
    graph that is given up: so they are given up together.

    Parameters
    ----------
    device : torch.device
        With its index, if it has one.
    is_apart : bool
        What is done in :meth:`in_turn` is done on a stream of its own; else on that of the caller.
    """

    replays = True

    def __init__(self, device: torch.device, is_apart: bool = False) -> None:
        self._device = device
        self._is_apart = is_apart
        self._made: tuple[torch.cuda.Stream, Any] | None = None

    def _stream_and_pool(self) -> tuple[torch.cuda.Stream, Any]:
        if self._made is None:  # not before the device is used
            # Of another priority than members' streams: torch hands out the same 32 of one again.
            priority = 0 if self._is_apart else -1
            stream = torch.cuda.Stream(self._device, priority=priority)
            self._made = stream, torch.cuda.graph_pool_handle()
        return self._made

    def apart(self) -> CudaRecorder:
        """See :meth:`Recorder.apart`."""
        return CudaRecorder(self._device, is_apart=True)

    @contextmanager
    def in_turn(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """See :meth:`Recorder.in_turn`."""
        if not self._is_apart:
            yield
            return
        stream, _ = self._stream_and_pool()
        stream.wait_stream(torch.cuda.current_stream(self._device))
        for tensor in tensors.values():
            tensor.record_stream(stream)  # its memory is not used again before it was read
        with torch.cuda.stream(stream):
            yield

    def join(self) -> None:
        """See :meth:`Recorder.join`."""
        if self._is_apart and self._made is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._made[0])

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        """See :meth:`Recorder.run`; on the stream on which it will be recorded."""
        stream, _ = self._stream_and_pool()
        current = torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            found = function()
        current.wait_stream(stream)
        return found

    def record(self, function: Callable[[], Tensors]) -> Callable[[], Tensors]:
        """See :meth:`Recorder.record`."""
        stream, pool = self._stream_and_pool()
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(
                graph,
                pool=pool,
                stream=stream,
                # Other threads do what they like.
                capture_error_mode="thread_local",
            ),
        ):
            found = function()

        def replay() -> Tensors:
            with torch.cuda.device(self._device):
                graph.replay()
            return found

        return replay

    def forget(self) -> None:
        """See :meth:`Recorder.forget`."""
        if self._made is not None:
            self._made = self._made[0], torch.cuda.graph_pool_handle()
