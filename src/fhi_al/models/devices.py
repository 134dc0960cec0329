"""Decide on which device a training rank computes.  Pure: no torch or MPI."""

from __future__ import annotations


def training_device(device: str, local_index: int, n_gpus: int) -> str:
    """Device of one training rank.

    Parameters
    ----------
    device
        ``MISC.device``.
    local_index
        Which of the training ranks on its host this is, counted from 0.
    n_gpus
        GPUs that the rank sees.  A batch system often shows each rank one of its own.

    Returns
    -------
    str
        ``cuda`` becomes one of several GPUs, in turn; anything else stays as it is.
    """
    if device != "cuda" or n_gpus < 2:
        return device
    return f"cuda:{local_index % n_gpus}"
