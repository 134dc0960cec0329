"""MACE's symmetric contraction as polynomials, whose gradient costs as much as their value.

The contraction (Batatia et al., NeurIPS 2022, Eqs. 10 and 11) makes of each atom's features, in
each channel, polynomials of a degree that MACE calls the correlation; their coefficients depend on
the atom's element.  MACE evaluates them index by index with einsum, and derives them the same way.
Here a polynomial is homogeneous in the features and one more variable that is always 1.  Euler's
theorem then gives its value from its gradient, and one matrix product of coefficients with the
monomials of one degree less gives the gradient.

Same weights under the same names, same function up to rounding.  Measured for 8 ethanol molecules
with 32 channels on one core: value and forces in 4.7 instead of 19 ms, a training step's part in 28
instead of 54 ms.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement, permutations
from typing import Any

import torch
from mace.modules.symmetric_contraction import SymmetricContraction

# With more, the table of all products of three variables no longer is small.
MOST_CORRELATION = 3
# Atoms of each element.
Counts = tuple[int, ...]


class PolynomialContraction(torch.nn.Module):
    """In place of MACE's module of the same weights.

    Parameters
    ----------
    theirs : SymmetricContraction
        Stays as it is; its weights are shared.
    """

    def __init__(self, theirs: SymmetricContraction) -> None:
        super().__init__()
        # Under the name that the weights have in MACE's models.
        self.contractions = theirs.contractions
        # In a list: a module of its own would give the weights second names.
        self._theirs = [theirs]
        first: Any = self.contractions[0]
        self.degree = int(first.correlation)
        self.n_variables = int(first.U_tensors(1).shape[-2]) + 1
        monomials = list(combinations_with_replacement(range(self.n_variables), self.degree - 1))
        # Neither is a weight: state dicts do not hold them.
        self.register_buffer(
            "factors", torch.tensor(monomials).view(len(monomials), -1).T, persistent=False
        )
        for place, one in enumerate(self.contractions):
            self.register_buffer(f"table_{place}", self._table(one, monomials), persistent=False)

    @property
    def theirs(self) -> SymmetricContraction:
        """MACE's module, with the same weights."""
        return self._theirs[0]

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The contracted features.

        Parameters
        ----------
        x : (n_atoms, n_channels, n_features)
        y : (n_atoms, n_elements)
            1 for the atom's element, else 0.

        Returns
        -------
        (n_atoms, n_channels x components of all irreps)
        """
        element = y.argmax(1)
        order = torch.argsort(element, stable=True)
        counts = tuple(torch.bincount(element, minlength=y.shape[1]).tolist())
        features = x.index_select(0, order).permute(1, 2, 0)
        variables = torch.cat([features, torch.ones_like(features[:, :1])], 1)
        values = _Polynomials.apply(
            variables, self._coefficients(), self.factors, self.degree, counts
        )
        values = values.index_select(2, torch.argsort(order)).permute(2, 0, 1)
        sizes = [self._table_of(place).shape[1] for place in range(len(self.contractions))]
        return torch.cat([part.flatten(1) for part in values.split(sizes, 2)], 1)

    def _coefficients(self) -> torch.Tensor:
        """(n_elements, n_channels, n_components x n_variables, n_monomials)"""
        parts = []
        contractions: Any = self.contractions
        for place, one in enumerate(contractions):
            weights = torch.cat([one.weights_max, *one.weights], 1).transpose(1, 2)
            table = self._table_of(place)
            n_elements, n_channels, n_paths = weights.shape
            parts.append(
                (weights.reshape(-1, n_paths) @ table.flatten(1)).view(
                    n_elements, n_channels, -1, table.shape[-1]
                )
            )
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

    def _table_of(self, place: int) -> torch.Tensor:
        table: torch.Tensor = getattr(self, f"table_{place}")
        return table

    def _table(self, one: Any, monomials: list[tuple[int, ...]]) -> torch.Tensor:
        """What a weight of each path adds to each coefficient of the gradients.

        (n_paths of all degrees, n_components, n_variables, n_monomials), MACE's coupling
        coefficients made symmetric.
        """
        degree, n = self.degree, self.n_variables
        paths = []
        for nu in range(degree, 0, -1):
            coupling = one.U_tensors(nu)
            if coupling.dim() == nu + 1:  # a scalar: no index of components
                coupling = coupling.unsqueeze(0)
            whole = coupling.new_zeros((coupling.shape[0], *[n] * degree, coupling.shape[-1]))
            lower = (slice(0, n - 1),) * nu + (n - 1,) * (degree - nu)
            whole[(slice(None), *lower)] = coupling
            every = [
                whole.permute(0, *(1 + index for index in each), degree + 1)
                for each in permutations(range(degree))
            ]
            paths.append(sum(every, torch.zeros_like(whole)) / len(every))
        symmetric = torch.cat(paths, -1)
        if degree == 1:
            return symmetric.permute(2, 0, 1).unsqueeze(-1).contiguous()
        picked = symmetric[(slice(None), *torch.tensor(monomials).T)]
        times = torch.tensor([_arrangements(each) for each in monomials], dtype=picked.dtype)
        return (picked * times.view(1, -1, 1, 1)).permute(3, 0, 2, 1).contiguous()


class _Polynomials(torch.autograd.Function):
    """Values of homogeneous polynomials; the gradient is computed with them."""

    @staticmethod
    def forward(
        ctx: Any,
        variables: torch.Tensor,
        coefficients: torch.Tensor,
        factors: torch.Tensor,
        degree: int,
        counts: Counts,
    ) -> torch.Tensor:
        """(n_channels, n_components, n_atoms) of variables (n_channels, n_variables, n_atoms)."""
        slope = _slope(variables, coefficients, factors, counts)
        ctx.save_for_backward(variables, coefficients, factors, slope)
        ctx.degree, ctx.counts = degree, counts
        return (slope * variables.unsqueeze(1)).sum(2)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of functions that can be derived again: a loss of forces does so."""
        variables, coefficients, factors, slope = ctx.saved_tensors
        upstream = given[0].unsqueeze(2)
        by_variables = by_coefficients = None
        if ctx.needs_input_grad[0]:
            if torch.is_grad_enabled():
                slope = _slope(variables, coefficients, factors, ctx.counts)
            by_variables = ctx.degree * (upstream * slope).sum(1)
        if ctx.needs_input_grad[1]:
            left = (upstream * variables.unsqueeze(1)).flatten(1, 2).split(ctx.counts, 2)
            right = _monomials(variables, factors).split(ctx.counts, 2)
            by_coefficients = torch.stack(
                [torch.bmm(a, b.transpose(1, 2)) for a, b in zip(left, right, strict=True)]
            )
        return by_variables, by_coefficients, None, None, None


def _slope(
    variables: torch.Tensor, coefficients: torch.Tensor, factors: torch.Tensor, counts: Counts
) -> torch.Tensor:
    """The gradients over the degree: (n_channels, n_components, n_variables, n_atoms)."""
    monomials = _monomials(variables, factors).split(counts, 2)
    products = [torch.bmm(a, b) for a, b in zip(coefficients.unbind(), monomials, strict=True)]
    n_channels, n_variables, n_atoms = variables.shape
    return torch.cat(products, 2).view(n_channels, -1, n_variables, n_atoms)


def _monomials(variables: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """(n_channels, n_monomials, n_atoms)"""
    if len(factors) == 0:
        return torch.ones_like(variables[:, :1])
    product = variables.index_select(1, factors[0])
    for factor in factors[1:]:
        product = product * variables.index_select(1, factor)
    return product


def _arrangements(monomial: tuple[int, ...]) -> int:
    """In how many orders its factors can be written."""
    same = math.prod(math.factorial(monomial.count(index)) for index in set(monomial))
    return math.factorial(len(monomial)) // same


def with_polynomials(model: Any) -> Any:
    """The same model with its contractions replaced, where that is possible."""
    for product in model.products:
        theirs = product.symmetric_contractions
        if isinstance(theirs, SymmetricContraction) and _replaceable(theirs):
            product.symmetric_contractions = PolynomialContraction(theirs)
    return model


def without_polynomials(model: Any) -> Any:
    """The same model with MACE's own contractions."""
    for product in model.products:
        ours = product.symmetric_contractions
        if isinstance(ours, PolynomialContraction):
            product.symmetric_contractions = ours.theirs
    return model


def _replaceable(theirs: SymmetricContraction) -> bool:
    contractions: Any = theirs.contractions
    degrees = {int(one.correlation) for one in contractions}
    return len(degrees) == 1 and max(degrees) <= MOST_CORRELATION
