"""How far a predicted state is from a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.state import PAWDensity


@dataclass(frozen=True)
class Comparison:
    """A predicted state against its reference."""

    nmae: float
    """Normalised mean absolute error of ñ, %."""
    epsilon_D: dict[str, float]
    """Error of the density matrices, per element symbol and ``'total'``; 1 is the element's mean, 0 is exact."""
    matrix_squares: dict[str, tuple[float, float]]
    """What it is made of, see :func:`matrix_squares`; sums over states give that of all together."""
    dipole_error: float
    """|μ − μ_ref|, e·Å, in the same cell.  Where matter reaches across a periodic boundary it depends on where the cell
    begins, as far as the two densities differ there (:func:`.depends_on_origin_c`)."""
    electron_error: float
    """Electrons in the prediction (ñ and compensation charges) minus those in the reference."""


def compare(
    state: PAWDensity,
    reference: PAWDensity,
    means: Mapping[int, np.ndarray] | None = None,
    spreads: Mapping[int, float] | None = None,
) -> Comparison:
    """All figures for one pair of states.

    ``means``, ``spreads``: see :func:`density_matrix_error`.
    """
    squares = matrix_squares([state], [reference], means, spreads)
    return Comparison(
        nmae=nmae(state, reference),
        epsilon_D=epsilon_D(squares),
        matrix_squares=squares,
        dipole_error=float(np.linalg.norm(dipole_moment(state) - dipole_moment(reference))),
        electron_error=state.number_of_electrons() - reference.number_of_electrons(),
    )


def nmae(state: PAWDensity, reference: PAWDensity) -> float:
    """Normalised mean absolute error Σ_sR |ñ − ñ_ref| / Σ_sR ñ_ref, %."""
    _check_pair(state, reference)
    return 100 * float(np.abs(state.nt_sR - reference.nt_sR).sum() / reference.nt_sR.sum())


def density_matrix_error(
    states: Sequence[PAWDensity],
    references: Sequence[PAWDensity],
    means: Mapping[int, np.ndarray] | None = None,
    spreads: Mapping[int, float] | None = None,
) -> dict[str, float]:
    """Error of the atomic density matrices, dimensionless, per element symbol and for all elements (``'total'``).

        ε_D = RMS(D − D_ref) / RMS(D_ref − mean of the element)

    with both root mean squares over all matrix elements, atoms and states.  1 is what the mean achieves; nan: an
    element whose references do not differ from their mean.

    Parameters
    ----------
    means
        (nspins, ni, ni) mean matrix by atomic number, of :func:`element_means`.  That of the data set a model was
        trained on is the natural choice, and with few reference atoms the only sensible one
        (:func:`.scores.model_means`).  Default: the mean over ``references``.
    spreads
        Σ_sij (D_ref − mean)² per atom by atomic number, of :func:`element_spreads`: where ``references`` are a part
        of a larger set.  Default: of ``references``.
    """
    return epsilon_D(matrix_squares(states, references, means, spreads))


def matrix_squares(
    states: Sequence[PAWDensity],
    references: Sequence[PAWDensity],
    means: Mapping[int, np.ndarray] | None = None,
    spreads: Mapping[int, float] | None = None,
) -> dict[str, tuple[float, float]]:
    """Σ (D − D_ref)² and Σ (D_ref − mean)² by element symbol; parameters as :func:`density_matrix_error`."""
    means = element_means(references) if means is None else means
    spreads = element_spreads(references, means) if spreads is None else spreads
    error2_z: dict[int, float] = {}
    spread2_z: dict[int, float] = {}
    for state, reference in zip(states, references, strict=True):
        _check_atoms(state, reference)
        for z, D_sii, ref_sii in zip(reference.atoms.numbers.tolist(), state.D_asii, reference.D_asii, strict=True):
            if z not in spreads:
                raise ValueError(
                    f'no spread of density matrices for {chemical_symbols[z]}; there are {sorted(spreads)}'
                )
            error2_z[z] = error2_z.get(z, 0.0) + float(np.sum((D_sii - ref_sii) ** 2))
            spread2_z[z] = spread2_z.get(z, 0.0) + spreads[z]
    return {chemical_symbols[z]: (error2_z[z], spread2_z[z]) for z in sorted(error2_z)}


def epsilon_D(squares: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """√(Σ error² / Σ spread²) of each element and of all (``'total'``), from :func:`matrix_squares`; nan: no spread."""
    total = sum(error2 for error2, _ in squares.values()), sum(spread2 for _, spread2 in squares.values())
    return {
        symbol: float(np.sqrt(error2 / spread2)) if spread2 > 0.0 else float('nan')
        for symbol, (error2, spread2) in [*squares.items(), ('total', total)]
    }


def element_means(states: Iterable[PAWDensity]) -> dict[int, np.ndarray]:
    """(nspins, ni, ni) mean density matrix of each element, by atomic number."""
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    for state in states:
        for z, D_sii in zip(state.atoms.numbers.tolist(), state.D_asii, strict=True):
            sums[z] = sums.get(z, 0.0) + D_sii
            counts[z] = counts.get(z, 0) + 1
    return {z: sums[z] / counts[z] for z in sums}


def element_spreads(states: Iterable[PAWDensity], means: Mapping[int, np.ndarray]) -> dict[int, float]:
    """Σ_sij (D − mean)² per atom by atomic number, mean over all atoms of the element.

    ``means``: (nspins, ni, ni) by atomic number, of any origin.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for state in states:
        for z, D_sii in zip(state.atoms.numbers.tolist(), state.D_asii, strict=True):
            if z not in means:
                raise ValueError(f'no mean density matrix for {chemical_symbols[z]}; there are {sorted(means)}')
            sums[z] = sums.get(z, 0.0) + float(np.sum((D_sii - means[z]) ** 2))
            counts[z] = counts.get(z, 0) + 1
    return {z: sums[z] / counts[z] for z in sums}


def _check_pair(state: PAWDensity, reference: PAWDensity) -> None:
    _check_atoms(state, reference)
    if names := state.grid.differences(reference.grid):
        raise ValueError(
            'two densities can be compared on the same grid only; these differ in '
            + ', '.join(f'{n}: {getattr(state.grid, n).tolist()}/{getattr(reference.grid, n).tolist()}' for n in names)
        )


def _check_atoms(state: PAWDensity, reference: PAWDensity) -> None:
    if not np.array_equal(state.atoms.numbers, reference.atoms.numbers):
        raise ValueError(f'the states are of different atoms: {state.atoms.symbols} and {reference.atoms.symbols}')
    if state.nspins != reference.nspins:
        raise ValueError(f'the states have {state.nspins} and {reference.nspins} spin components')
