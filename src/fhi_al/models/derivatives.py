"""Forces and stress from the energies of a batch, by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fhi_al.models.graphs import Tensors


def energy_and_derivatives(
    energies: Callable[[Tensors], torch.Tensor],
    inputs: Tensors,
    *,
    training: bool,
    stress: bool,
) -> Tensors:
    """Energies, forces and, if asked for, stress of a batch.

    Parameters
    ----------
    energies
        A batch -> (n_structures,) in eV; of positions and shifts alone.
    inputs
        The batch, see :func:`fhi_al.models.batches.graph_tensors`.
    training
        The forces are to be differentiated, too.
    stress
        The derivative by a strain of cell and atoms over the volume, ASE's sign.

    Returns
    -------
    dict
        ``energy`` (n_structures,) in eV, ``forces`` (n_atoms of all, 3) in eV/A, ``stress``
        (n_structures, 3, 3) in eV/A^3.
    """
    positions = inputs["positions"].detach().requires_grad_(True)
    moved, wanted = {**inputs, "positions": positions}, [positions]
    cells = inputs["cell"].view(-1, 3, 3)
    if stress:
        strain = torch.zeros_like(cells, requires_grad=True)
        wanted.append(strain)
        symmetric = (strain + strain.transpose(1, 2)) / 2
        of_atoms = symmetric[inputs["batch"]]
        of_pairs = of_atoms[inputs["edge_index"][0]]
        moved["positions"] = positions + torch.einsum("ab,abc->ac", positions, of_atoms)
        moved["shifts"] = inputs["shifts"] + torch.einsum("ab,abc->ac", inputs["shifts"], of_pairs)
    energy = energies(moved)
    # An atom alone has an energy that depends on nothing.
    if energy.requires_grad and inputs["edge_index"].numel():
        gradients = torch.autograd.grad(energy.sum(), wanted, create_graph=training)
    else:
        gradients = tuple(torch.zeros_like(each) for each in wanted)
    found = {"energy": energy, "forces": -gradients[0]}
    if stress:
        volumes = torch.linalg.det(cells).abs().view(-1, 1, 1)
        # A molecule may have none: a number that nothing is made of, rather than NaN for all.
        found["stress"] = gradients[1] / torch.where(volumes > 0, volumes, 1.0)
    return found
