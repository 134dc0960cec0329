"""Decide on which device a training rank computes, how much of it at once, with which packages.

Imports neither torch nor MPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

CUEQUIVARIANCE = ("cuequivariance", "cuequivariance_torch")
# Its kernels; without them it computes as it does on a CPU, which is slow.
CUEQUIVARIANCE_ON_A_GPU = "cuequivariance_ops_torch"


@dataclass(frozen=True)
class BatchLimits:
    """How much a device is given at once, and keeps.

    Parameters
    ----------
    most_pairs : int
        Directed pairs of neighbours in a batch of predictions; some 100 atoms of a dense crystal
        have 6000.  What is too much for the memory is halved when it says so.
    most_ready_bytes : int
        Of labels' tensors that are kept ready for batches.
    """

    most_pairs: int
    most_ready_bytes: int


# Measured on one core: more pairs at once gain nothing there, and the tensors save the time that it
# takes to make them, out of a memory that the ranks of a host share.
_CPU = BatchLimits(30_000, 128 * 2**20)
# Not measured, from memory: a pair takes 50 to 100 kB with 128 channels, L = 1 and float64, so that
# these take half of a card of 24 GB; 2 GiB are 5000 structures of 100 dense atoms.
_GPU = BatchLimits(120_000, 2 * 2**30)
LIMITS: Mapping[str, BatchLimits] = MappingProxyType(
    {"cpu": _CPU, "cuda": _GPU, "xpu": _GPU, "mps": _CPU}  # mps: the memory is the CPU's
)


def batch_limits(device: str) -> BatchLimits:
    """Limits of a kind of device, with or without an index."""
    return LIMITS[device.partition(":")[0]]


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
