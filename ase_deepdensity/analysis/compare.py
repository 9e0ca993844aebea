"""How far a predicted state is from a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.arguments import formula
from ase_deepdensity.spin import components, spins
from ase_deepdensity.state import PAWDensity

SMALLEST_MAGNETISATION = 1e-3
"""∫ |m| dr of a cell below which it counts as spin-paired, μB: what an SCF cycle leaves of moments that vanish."""


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
    magnetisation_nmae: float | None = None
    """That of the magnetisation, %, see :func:`magnetisation_nmae`; None: the reference has none."""


def compare(
    state: PAWDensity,
    reference: PAWDensity,
    means: Mapping[int, np.ndarray] | None = None,
    spreads: Mapping[int, float] | None = None,
) -> Comparison:
    """All figures for one pair of states; where one is spin-paired and the other is not, both as spin-polarised ones.

    ``means``, ``spreads``: see :func:`density_matrix_error`.
    """
    nspins = max(state.nspins, reference.nspins)
    state, reference = state.with_spins(nspins), reference.with_spins(nspins)
    squares = matrix_squares([state], [reference], means, spreads)
    return Comparison(
        nmae=nmae(state, reference),
        epsilon_D=epsilon_D(squares),
        matrix_squares=squares,
        dipole_error=float(np.linalg.norm(dipole_moment(state) - dipole_moment(reference))),
        electron_error=state.number_of_electrons() - reference.number_of_electrons(),
        magnetisation_nmae=magnetisation_nmae(state, reference),
    )


def nmae(state: PAWDensity, reference: PAWDensity) -> float:
    """Normalised mean absolute error Σ_sR |ñ − ñ_ref| / Σ_sR ñ_ref, %."""
    _check_pair(state, reference)
    if state.nspins != reference.nspins:
        raise ValueError(f'the states have {state.nspins} and {reference.nspins} spin components')
    return 100 * float(np.abs(state.nt_sR - reference.nt_sR).sum() / reference.nt_sR.sum())


def magnetisation_nmae(state: PAWDensity, reference: PAWDensity) -> float | None:
    """Normalised mean absolute error Σ_R |m − m_ref| / Σ_R |m_ref| of m = ñ_up − ñ_down, %.

    100 is what a spin-paired state achieves.  None: ∫ |m_ref| dr is below :data:`SMALLEST_MAGNETISATION`.
    """
    state, reference = state.with_spins(2), reference.with_spins(2)
    _check_pair(state, reference)
    m_R, ref_R = (nt_sR[0] - nt_sR[1] for nt_sR in (state.nt_sR, reference.nt_sR))
    total = np.abs(ref_R).sum()
    if total * reference.grid.dv < SMALLEST_MAGNETISATION:
        return None
    return 100 * float(np.abs(m_R - ref_R).sum() / total)


def density_matrix_error(
    states: Sequence[PAWDensity],
    references: Sequence[PAWDensity],
    means: Mapping[int, np.ndarray] | None = None,
    spreads: Mapping[int, float] | None = None,
) -> dict[str, float]:
    """Error of the atomic density matrices, dimensionless, per element symbol and for all elements (``'total'``).

        ε_D = RMS(D − D_ref) / RMS(D_ref − mean of the element)

    with both root mean squares over all matrix elements, atoms and states, of the total and of the magnetisation (up
    minus down) where there is one.  1 is what the mean achieves; nan: an
    element whose references do not differ from their mean.

    Parameters
    ----------
    means
        (1 or nspins, ni, ni) mean matrix by atomic number, of :func:`element_means`; 1: of the total, and the mean
        magnetisation is zero.  That of the data set a model was
        trained on is the natural choice, and with few reference atoms the only sensible one
        (:func:`.scores.model_means`).  Default: the mean over ``references``.
    spreads
        Σ (D_ref − mean)² per atom by atomic number, of :func:`element_spreads`: where ``references`` are a part
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
            error2_z[z] = error2_z.get(z, 0.0) + _square(D_sii, ref_sii)
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
    """(nspins, ni, ni) mean density matrix of each element, by atomic number; nspins is the largest of the states."""
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    for state in states:
        for z, D_sii in zip(state.atoms.numbers.tolist(), state.D_asii, strict=True):
            sums[z] = _sum(sums[z], D_sii) if z in sums else D_sii
            counts[z] = counts.get(z, 0) + 1
    return {z: sums[z] / counts[z] for z in sums}


def element_spreads(states: Iterable[PAWDensity], means: Mapping[int, np.ndarray]) -> dict[int, float]:
    """Σ (D − mean)² per atom by atomic number, mean over all atoms of the element.

    ``means``: (1 or nspins, ni, ni) by atomic number, of any origin.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for state in states:
        for z, D_sii in zip(state.atoms.numbers.tolist(), state.D_asii, strict=True):
            if z not in means:
                raise ValueError(f'no mean density matrix for {chemical_symbols[z]}; there are {sorted(means)}')
            sums[z] = sums.get(z, 0.0) + _square(D_sii, means[z])
            counts[z] = counts.get(z, 0) + 1
    return {z: sums[z] / counts[z] for z in sums}


def _sum(D_sii: np.ndarray, other_sii: np.ndarray) -> np.ndarray:
    """Of matrices, one of which may be spin-paired."""
    nspins = max(len(D_sii), len(other_sii))
    return spins(components(D_sii), nspins) + spins(components(other_sii), nspins)


def _square(D_sii: np.ndarray, other_sii: np.ndarray) -> float:
    """Σ_ij of the squared differences of the totals and of the magnetisations; one that is not there is zero.

    So it is the same whether a spin-paired matrix is given as one or as two halves.
    """
    first_sii, second_sii = components(D_sii), components(other_sii)
    difference_sii = np.zeros((2, *first_sii.shape[1:]))
    difference_sii[: len(first_sii)] += first_sii
    difference_sii[: len(second_sii)] -= second_sii
    return float(np.sum(difference_sii**2))


def _check_pair(state: PAWDensity, reference: PAWDensity) -> None:
    _check_atoms(state, reference)
    if names := state.grid.differences(reference.grid):
        raise ValueError(
            'two densities can be compared on the same grid only; these differ in '
            + ', '.join(f'{n}: {getattr(state.grid, n).tolist()}/{getattr(reference.grid, n).tolist()}' for n in names)
        )


def _check_atoms(state: PAWDensity, reference: PAWDensity) -> None:
    if not np.array_equal(state.atoms.numbers, reference.atoms.numbers):
        raise ValueError(f'the states are of different atoms: {formula(state.atoms)} and {formula(reference.atoms)}')
