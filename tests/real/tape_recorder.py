"""Records and replays on a CPU as CUDA graphs do: operations on tensors, and nothing of Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

Tensors = dict[str, torch.Tensor]

# A device would be waited for, which ends a recording.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "equal")


class TapeRecorder:
    """See :class:`fhi_al.models.recorders.Recorder`."""

    replays = True

    def apart(self) -> TapeRecorder:
        return TapeRecorder()

    def in_turn(self, tensors: Mapping[str, torch.Tensor]) -> AbstractContextManager[None]:
        return nullcontext()

    def join(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        return function()

    def record(self, function: Callable[[], Tensors]) -> Callable[[], Tensors]:
        with _Tape() as tape:
            found = function()
        tape.undo()

        def replay() -> Tensors:
            with torch.no_grad():
                for operation, arguments, options, results in tape.operations:
                    again = _tensors(operation(*arguments, **options))
                    for old, new in zip(results, again, strict=True):
                        if old.data_ptr() != new.data_ptr():  # neither a view nor in place
                            old.copy_(new)
            return found

        return replay


class _Tape(TorchDispatchMode):
    """Notes the operations, and what the tensors were that they change."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._own: set[int] = set()
        self._kept: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        name = operation.overloadpacket.__name__
        if name in WAITS or (name == "repeat_interleave" and options.get("output_size") is None):
            raise RuntimeError(f"aten::{name} waits for the device")
        for place, argument in enumerate(operation._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = arguments[place] if place < len(arguments) else options.get(argument.name)
                for tensor in _tensors(given):
                    self._keep(tensor)
        result = operation(*arguments, **options)
        tensors = _tensors(result)
        given = {_address(one) for one in _tensors((arguments, options))}
        self._own |= {_address(one) for one in tensors} - given
        self._kept += tensors  # no address is used twice
        self.operations.append((operation, arguments, options, tensors))
        return result

    def _keep(self, tensor: torch.Tensor) -> None:
        address = _address(tensor)
        if address not in self._own:
            self._own.add(address)
            self._before.append((tensor.detach(), tensor.detach().clone()))

    def undo(self) -> None:
        """A recording does nothing: only its replays do."""
        for tensor, before in reversed(self._before):
            tensor.copy_(before)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [one for one in tree_flatten(values)[0] if isinstance(one, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
