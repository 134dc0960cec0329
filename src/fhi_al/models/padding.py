"""Batches padded to a few sizes, so that the same kernels can be replayed for all of them.

Atoms, pairs and structures are added that belong to structures of weight zero: their pairs are
longer than the cutoff and join added atoms to themselves, so that nothing of the batch itself
changes but the order in which a device may add numbers up.  Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from fhi_al.models.graphs import Tensors

# Of a power of two: sizes grow in steps of 6 to 12 %, so that batches of similar structures have
# one or two sizes, and at most an eighth of the work is for nothing.
STEPS = 8

# What is given for each atom, pair (in a dimension of its own) and structure (so many rows).
_OF_ATOMS = ("positions", "node_attrs", "forces")
_OF_PAIRS = ("shifts", "unit_shifts")
_OF_STRUCTURES = MappingProxyType(
    {
        "cell": 3,
        "head": 1,
        "energy": 1,
        "stress": 1,
        "weight": 1,
        "energy_weight": 1,
        "forces_weight": 1,
        "stress_weight": 1,
        "volume": 1,
    }
)
_PLACES = ("batch", "ptr", "edge_index")
# Shares of :class:`fhi_al.models.loss.Loss` by which means over a padded batch are those over what
# is in it.
SHARES = ("energy_share", "forces_share")


@dataclass(frozen=True)
class BatchSizes:
    """How much is in a batch.

    Parameters
    ----------
    n_structures, n_atoms, n_pairs : int
    """

    n_structures: int
    n_atoms: int
    n_pairs: int

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> BatchSizes:
        """Of a batch as :func:`fhi_al.models.batches.graph_tensors` makes it."""
        n_structures = len(tensors["ptr"]) - 1
        return cls(n_structures, len(tensors["positions"]), tensors["edge_index"].shape[1])

    def padded(self) -> BatchSizes:
        """The sizes to which it is padded: at least one more structure, of at least one atom.

        They follow from the sizes alone, so that a resumed run pads as the unbroken one does.
        """
        n_structures = rounded_up(self.n_structures + 1)
        n_atoms = rounded_up(self.n_atoms + n_structures - self.n_structures)
        return BatchSizes(n_structures, n_atoms, rounded_up(self.n_pairs))


def rounded_up(number: int) -> int:
    """The next of the sizes 1 to 16, 18, 20, ... 32, 36, 40, ...: eight for each power of two."""
    step = 1
    while number > 2 * STEPS * step:
        step *= 2
    return -(-number // step) * step


def is_known(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a batch holds nothing but what :func:`padded` knows."""
    return {*_OF_ATOMS, *_OF_PAIRS, *_OF_STRUCTURES, *_PLACES}.issuperset(tensors)


def padded(tensors: Mapping[str, torch.Tensor], sizes: BatchSizes, r_max: float) -> Tensors:
    """A batch with structures, atoms and pairs that contribute nothing.

    Parameters
    ----------
    tensors
        A batch, with or without what a loss compares with; the names are those of
        :mod:`fhi_al.models.batches`.
    sizes : BatchSizes
        Of the result; see :meth:`BatchSizes.padded`.
    r_max : float
        Cutoff in A: the added pairs are twice as long.

    Returns
    -------
    dict
        The same names, and the shares of a loss, ``energy_share`` and ``forces_share``.

    Raises
    ------
    ValueError
        If the batch holds something that is not known here.
    """
    if not is_known(tensors):
        raise ValueError(f"cannot be padded: one of {', '.join(sorted(tensors))}")
    has = BatchSizes.of(tensors)
    added = BatchSizes(
        sizes.n_structures - has.n_structures,
        sizes.n_atoms - has.n_atoms,
        sizes.n_pairs - has.n_pairs,
    )
    length = 2 * r_max
    rows = {
        **dict.fromkeys(_OF_ATOMS, added.n_atoms),
        **dict.fromkeys(_OF_PAIRS, added.n_pairs),
        **{name: added.n_structures * each for name, each in _OF_STRUCTURES.items()},
    }
    found = {
        name: torch.cat([tensors[name], tensors[name].new_zeros((n, *tensors[name].shape[1:]))])
        for name, n in rows.items()
        if name in tensors
    }
    # The first element: a model must not meet an atom of none.
    found["node_attrs"][has.n_atoms :, 0] = 1
    found["cell"][3 * has.n_structures :] = length * torch.eye(
        3, dtype=found["cell"].dtype, device=found["cell"].device
    ).repeat(added.n_structures, 1)
    found["unit_shifts"][has.n_pairs :, 0] = 1
    found["shifts"][has.n_pairs :, 0] = length
    if "volume" in found:
        found["volume"][has.n_structures :] = length**3
    found |= _padded_places(tensors, has, added)
    shares = (sizes.n_structures / has.n_structures, sizes.n_atoms / has.n_atoms)
    for name, share in zip(SHARES, shares, strict=True):
        found[name] = found["positions"].new_full((), share)
    return found


def _padded_places(
    tensors: Mapping[str, torch.Tensor], has: BatchSizes, added: BatchSizes
) -> Tensors:
    """Where atoms belong: one to each added structure, the rest to the last; made on the device."""
    device = tensors["ptr"].device
    structures = torch.arange(added.n_atoms, device=device).clamp(max=added.n_structures - 1)
    ends = torch.arange(1, added.n_structures + 1, device=device) + has.n_atoms
    ends[-1:] = has.n_atoms + added.n_atoms
    # In turn, so that no atom is one that all threads of a device add to.
    atoms = torch.arange(added.n_pairs, device=device) % added.n_atoms + has.n_atoms
    return {
        "batch": torch.cat([tensors["batch"], structures + has.n_structures]),
        "ptr": torch.cat([tensors["ptr"], ends]),
        "edge_index": torch.cat([tensors["edge_index"], atoms.expand(2, -1)], dim=1),
    }


def without_padding(output: Mapping[str, torch.Tensor | None], has: BatchSizes) -> Tensors:
    """What a model gives for a padded batch, for what is in it.

    Parameters
    ----------
    output
        ``energy``, ``forces`` and perhaps ``stress``; all else is left out.
    has : BatchSizes
        Of the batch before it was padded.
    """
    rows = {"energy": has.n_structures, "forces": has.n_atoms, "stress": has.n_structures}
    return {
        name: values[:n] for name, n in rows.items() if (values := output.get(name)) is not None
    }
