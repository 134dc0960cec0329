"""Decide on which device a training rank computes, and whether with cuEquivariance.

Imports neither torch nor MPI.
"""

from __future__ import annotations

from importlib.util import find_spec

CUEQUIVARIANCE = ("cuequivariance", "cuequivariance_torch")
# Its kernels; without them it computes as it does on a CPU, which is slow.
CUEQUIVARIANCE_ON_A_GPU = "cuequivariance_ops_torch"


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


def cuequivariance_problem(device: str) -> str | None:
    """Why models cannot be run with cuEquivariance on a device, without naming the key, or None.

    Parameters
    ----------
    device
        ``MISC.device``.
    """
    on_a_gpu = (CUEQUIVARIANCE_ON_A_GPU,) if device.startswith("cuda") else ()
    absent = [name for name in (*CUEQUIVARIANCE, *on_a_gpu) if find_spec(name) is None]
    if not absent:
        return None
    return (
        f"{' and '.join(absent)} cannot be imported. Expected cuEquivariance: pip install "
        "cuequivariance-torch and the cuequivariance-ops-torch package of your CUDA version "
        "(cuequivariance-ops-torch-cu12, -cu13), or leave the key out"
    )
