"""Minimal-basis iterative stockholder (MBIS) charges: atoms are sums of the few Slater functions that fit n best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.units import Bohr

from ase_deepdensity.analysis.shares import refined
from ase_deepdensity.codes.gpaw.spheres import Sphere, spheres
from ase_deepdensity.grid import Grid
from ase_deepdensity.state import PAWDensity

SHELLS = 2, 8, 8, 18, 18, 32
"""Electrons of the shells that begin with."""
REACH, NEAR = 8.0, 5.0
"""Å: how far Slater functions are looked at, on the grid and in the spheres of other atoms."""
NOTHING = 1e-14
"""electrons/Å³: where the model is less, there is no density."""
TOLERANCE = 1e-5
"""|e|: change of the charges in an iteration at which they count as found."""
MOST_ITERATIONS = 500


@dataclass
class Slaters:
    """Σ_i N_i exp(−r/σ_i) / (8π σ_i³) of one atom, electrons/Å³."""

    N_i: np.ndarray
    """Electrons of each function."""
    sigma_i: np.ndarray
    """Widths, Å."""

    @classmethod
    def of(cls, number: int) -> Slaters:
        """To begin with: as many as the element's period, a₀/2Z to a₀/2 wide, each with the electrons of its shell."""
        N_i, left = list[float](), number
        for electrons in SHELLS:
            if left > 0:
                N_i.append(min(left, electrons))
                left -= electrons
        sigma_i = np.geomspace(Bohr / (2 * number), Bohr / 2, len(N_i)) if len(N_i) > 1 else np.array([Bohr / 2])
        return cls(np.array(N_i, float), sigma_i)

    def __call__(self, r_p: np.ndarray) -> np.ndarray:
        """(functions, points) their values at distances r, Å."""
        factor_i = self.N_i / (8 * pi * self.sigma_i**3)
        values_ip: np.ndarray = factor_i[:, np.newaxis] * np.exp(-r_p / self.sigma_i[:, np.newaxis])
        return values_ip


def mbis_charges(state: PAWDensity, *, gridrefinement: int = 1) -> np.ndarray:
    """Of each atom (natoms,) its MBIS charge, |e|: see :func:`mbis`.

    Parameters
    ----------
    gridrefinement
        Points per interval of the state's grid, for the smooth part of the density; cusps have points of their own.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    ValueError
        The charges do not converge.
    """
    fine = refined(state, gridrefinement)
    slaters_a = mbis(fine.grid, fine.nt_sR.sum(axis=0), state.atoms, spheres(state))
    charge_a: np.ndarray = state.atoms.numbers - np.array([slaters.N_i.sum() for slaters in slaters_a])
    return charge_a


def mbis(grid: Grid, n_R: np.ndarray, atoms: Atoms, spheres: Sequence[Sphere] = ()) -> list[Slaters]:
    """The Slater functions of each atom that share out a density among themselves and are, each, like its share.

        N_i = ∫ n ρ_i/ρ dr,     σ_i = ∫ n ρ_i/ρ |r − R_a| dr / 3 N_i,     ρ = Σ_i ρ_i

    (T. Verstraelen et al., doi:10.1021/acs.jctc.6b00456, eqs. 17 and 18), repeated until N no longer changes: of all
    such sums ρ the one with the least Kullback–Leibler divergence from n.

    Parameters
    ----------
    grid
        A whole grid.
    n_R
        (``grid.shape``) electrons/Å³: all of the density, or its smooth part.
    spheres
        Of each atom what the smooth part lacks.

    Raises
    ------
    ValueError
        No convergence after :data:`MOST_ITERATIONS`.
    """
    space = _Space(grid, n_R, atoms, spheres)
    slaters_a = [Slaters.of(int(number)) for number in atoms.numbers]
    electrons_a = np.array([slaters.N_i.sum() for slaters in slaters_a])
    for _ in range(MOST_ITERATIONS):
        slaters_a = space.improved(slaters_a)
        before_a, electrons_a = electrons_a, np.array([slaters.N_i.sum() for slaters in slaters_a])
        if np.abs(electrons_a - before_a).max() < TOLERANCE:
            return slaters_a
    change = np.abs(electrons_a - before_a).max()
    raise ValueError(f'MBIS charges still change by {change:.1g} |e| after {MOST_ITERATIONS} iterations')


class _Space:
    """Points that integrals are sums over: those of the grid, then those of the spheres."""

    def __init__(self, grid: Grid, n_R: np.ndarray, atoms: Atoms, spheres: Sequence[Sphere]):
        added = (sphere.n_p * sphere.weight_p for sphere in spheres)
        self.electrons_p = np.concatenate([n_R.ravel() * grid.dv, *added])
        self.index_ap, self.r_ap = list[np.ndarray](), list[np.ndarray]()
        first_b = n_R.size + np.cumsum([0, *(len(sphere.n_p) for sphere in spheres)])
        centre, other, vector_xv = neighbor_list('ijD', atoms, NEAR) if spheres else (np.empty(0, int),) * 3
        for a, position_v in enumerate(atoms.positions):
            index_p, vector_pv = grid.around(position_v, REACH)
            indices, distances = [index_p], [np.linalg.norm(vector_pv, axis=1)]
            near = [(a, np.zeros(3)), *((other[x], -vector_xv[x]) for x in np.flatnonzero(centre == a))]
            for b, from_b_v in near if spheres else ():
                indices.append(first_b[b] + np.arange(len(spheres[b].n_p)))
                distances.append(np.linalg.norm(spheres[b].vector_pv - from_b_v, axis=1))
            self.index_ap.append(np.concatenate(indices).astype(np.int32))
            self.r_ap.append(np.concatenate(distances).astype(np.float32))

    def improved(self, slaters_a: Sequence[Slaters]) -> list[Slaters]:
        """One iteration."""
        model_p = np.zeros(len(self.electrons_p))
        for slaters, index_p, r_p in zip(slaters_a, self.index_ap, self.r_ap, strict=True):
            model_p += np.bincount(index_p, slaters(r_p).sum(axis=0), minlength=len(model_p))
        ratio_p = np.where(model_p > NOTHING, self.electrons_p / np.maximum(model_p, NOTHING), 0.0)
        result = []
        for slaters, index_p, r_p in zip(slaters_a, self.index_ap, self.r_ap, strict=True):
            share_ip = slaters(r_p) * ratio_p[index_p]
            N_i = share_ip.sum(axis=1)
            result.append(Slaters(N_i, share_ip @ r_p / (3 * N_i)))
        return result
