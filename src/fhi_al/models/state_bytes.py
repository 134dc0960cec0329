"""Nested state with tensors as bytes and back, for files and messages.  Nothing is unpickled."""

from __future__ import annotations

import io
from typing import Any

import torch


def packed(state: dict[str, Any]) -> bytes:
    """State as the bytes of a file that ``torch.load`` reads."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """The state in such bytes, tensors on the CPU, bit for bit."""
    # Said aloud: importing mace makes torch unpickle by default.
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
