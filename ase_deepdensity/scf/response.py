"""What the energy of one pass depends on: the density that comes out, and the forces that are its exact derivative.

GPAW's energy after a pass at the state x = (ñ, D) is the Harris–Foulkes functional (doi:10.1103/PhysRevB.31.1770),

    E1[x; R] = Σ_n f_n ε_n − ∫ v (ñ − ñ_c) − Σ_a D_a·ΔH_a + E_pot[x; R],     v = δE_pot/δñ,  ΔH_a = ∂E_pot/∂D_a,

whose error is of second order in that of x.  Eigenvalues are stationary with respect to the orbitals, so

    dE1 = ∫ (ñ_out − ñ) dv + Σ_a (D_out,a − D_a)·dΔH_a + (what GPAW's forces hold: explicit terms at x).

v and ΔH are derivatives of one functional.  With Δ = x_out − x and ′ the derivative along x + tΔ at t = 0,

    dE1/dR = −F_GPAW[x] + (∂E_pot/∂R)′ + ∫ v′ ∂ñ/∂R + Σ_a ΔH_a′·∂D_a/∂R.

The second term is what the potential of the residual does to all that moves with the atoms at fixed x: compensation
charges and local potentials.  The last two are one vector–Jacobian product through the model.

The stress is the same with strains ε in place of R.  GPAW's stress lets the valence part of ñ shrink as the cell
grows, and its core part go with the atoms; with n = ñ(ε) as the model has it,

    V σ = V σ_GPAW[x] + (∂E_pot/∂ε)′ + d/dε (∫ v′ ñ dr + Σ_a ΔH_a′·D_a),

the last with v′ and ΔH′ held on the grid points and atoms.  For six strains that is differences of predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from math import pi, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms
from ase.units import Bohr, Ha
from gpaw.mpi import broadcast_float

from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.codes.gpaw.seams import (
    electrostatics_of,
    forces_at_density,
    forces_of_potential,
    output_density,
    quick_charge_forces,
    stress_of_potential,
)
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.default_start import State
from ase_deepdensity.scf.seed import ModelSeed, grid_of
from ase_deepdensity.spin import components, spins

if TYPE_CHECKING:
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.new.calculation import DFT
    from gpaw.new.potential import Potential

STEP = 0.02
"""t of the derivative along the residual."""
SMALL = 1e-2
"""Residual, electrons per electron, from which on the derivative is taken on both sides: at one the error of its
truncation is of third order in the residual, and t times smaller."""
STRAIN = 1e-4
"""Of the differences of predictions, in double precision."""
SCREENING = 1.7
"""Dielectric constant in the estimate of the energy's error: about that of a molecular liquid at optical frequency."""


class Residual:
    """Δ = x_out − x after a pass, and the derivatives along it.

    Parameters
    ----------
    dft
        Of GPAW, after a pass at its density.
    """

    def __init__(self, dft: DFT):
        self.dft = dft
        density = dft.density
        self.delta = State(*output_density(density, dft.ibzwfs)).minus(State.of(density))
        self.per_electron = self.delta.electrons(density) / (density.nvalence - density.charge)
        """∫ |ñ_out − ñ| dr per electron."""

    @cached_property
    def ends(self) -> list[tuple[float, Potential]]:
        """Two t and the potentials at x + tΔ: what derivatives are taken between."""
        return [(t, self._potential(t)) for t in (-STEP if self.per_electron > SMALL else 0.0, STEP)]

    def slope(self, value: Callable[[float, Potential], np.ndarray]) -> np.ndarray:
        """d/dt of a function of t and the potential."""
        (t0, here), (t1, there) = self.ends
        return (value(t1, there) - value(t0, here)) / (t1 - t0)

    @cached_property
    def dv_sR(self) -> np.ndarray:
        """v′, Ha."""
        return self.slope(lambda t, potential: potential.vt_sR.data)

    @cached_property
    def ddH_asii(self) -> AtomArrays:
        """ΔH′, Ha."""
        dH_asii = self.dft.potential.dH_asii
        return dH_asii.new(data=self.slope(lambda t, potential: potential.dH_asii.data))

    def energy_error(self) -> float:
        """An estimate of E1 − E_SCF, eV, the same on all ranks: −⟨Δ, x′⟩ / 2ε with all screening in one number ε."""
        desc = self.dft.density.nt_sR.desc
        product = float(np.vdot(self.dv_sR, self.delta.nt_sR).real) * desc.dv
        product += float(np.vdot(self.ddH_asii.data, self.delta.D_asii.data).real)
        error = -desc.comm.sum_scalar(product) / (2 * SCREENING) * Ha
        return float(broadcast_float(error, self.dft.comm))

    def forces(self, seed: ModelSeed, atoms: Atoms) -> np.ndarray:
        """−dE1/dR, (natoms, 3), Ha/bohr, the same on all ranks."""
        dft = self.dft
        with quick_charge_forces(dft):
            F_av = forces_at_density(dft)
            correction_av = self.slope(self._explicit)
        correction_av -= self._through_model(seed, atoms) * Bohr
        dft.density.nt_sR.desc.comm.sum(correction_av)
        F_av += dft.ibzwfs.ibz.symmetries.symmetrize_forces(correction_av)
        dft.comm.broadcast(F_av, 0)
        return F_av

    def stress(self, seed: ModelSeed, atoms: Atoms) -> np.ndarray:
        """dE1/dε per volume, (3, 3), Ha/bohr³, the same on all ranks; plane waves only."""
        dft, desc = self.dft, self.dft.density.nt_sR.desc
        v_sR, dH_asii = dft.potential.vt_sR, dft.potential.dH_asii

        def explicit(t: float, potential: Potential) -> np.ndarray:
            """With v and ΔH as they are, the orbitals and the core of ñ give the same for all t."""
            with self._shifted(t):
                return stress_of_potential(dft, electrostatics_of(potential, v_sR, dH_asii))

        model_vv = self._strained_model(seed, atoms)
        desc.comm.sum(model_vv)
        sigma_vv = stress_of_potential(dft, dft.potential) + self.slope(explicit) + model_vv / desc.volume
        dft.comm.broadcast(sigma_vv, 0)
        return sigma_vv

    def _strained_model(self, seed: ModelSeed, atoms: Atoms) -> np.ndarray:
        """d/dε (∫ v′ ñ dr + Σ_a ΔH_a′·D_a), this rank's part, Ha."""
        predictor = Predictor(seed.model, level=seed.level, dtype=torch.float64)
        density = self.dft.density
        desc, grid = density.nt_sR.desc, grid_of(density.nt_sR.desc)
        v_sR, W_asii, nspins = self.dv_sR, self.ddH_asii, density.ndensities
        electrons = float(desc.comm.sum_scalar(float(density.nt_sR.data.sum()))) * desc.dv

        def predicted(strain_vv: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], float]:
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain_vv), scale_atoms=True)
            block = grid.new(cell_cv=strained.cell.array)
            coefficients = predictor.coefficients(strained)
            D_asii = [spins(components(D_sii), nspins) for D_sii in coefficients.D_asii()]
            charge = sqrt(4 * pi) * sum(
                np.vdot(D_asii[a].sum(axis=0), density.delta_aiiL[a][:, :, 0]) for a in range(len(atoms))
            )
            n_sR = spins(predictor.evaluate_components(coefficients, block), nspins)
            return n_sR * block.dv, D_asii, float(charge)

        def value(strain_vv: np.ndarray) -> float:
            """Up to a constant."""
            n_sR, D_asii, charge = predicted(strain_vv)
            n_sR *= (electrons + charge0 - charge) / float(desc.comm.sum_scalar(float(n_sR.sum())))
            return float(np.vdot(v_sR, n_sR)) + sum(float(np.vdot(W_sii, D_asii[a])) for a, W_sii in W_asii.items())

        with warnings.catch_warnings(action='ignore', category=UnfamiliarWarning):
            charge0 = predicted(np.zeros((3, 3)))[2]
            result_vv = np.zeros((3, 3))
            for v, w in zip(*np.triu_indices(3), strict=True):
                strain_vv = np.zeros((3, 3))
                strain_vv[v, w] += STRAIN / 2
                strain_vv[w, v] += STRAIN / 2
                result_vv[v, w] = result_vv[w, v] = (value(strain_vv) - value(-strain_vv)) / (2 * STRAIN)
        return result_vv

    @contextmanager
    def _shifted(self, t: float) -> Iterator[None]:
        """Let GPAW's density be x + tΔ."""
        density = self.dft.density
        before = State.of(density)
        density.nt_sR.data += t * self.delta.nt_sR
        density.D_asii.data += t * self.delta.D_asii.data
        try:
            yield
        finally:
            before.put(density)

    def _potential(self, t: float) -> Potential:
        dft = self.dft
        if t == 0.0:
            return dft.potential
        vHt_x = dft.potential.vHt_x
        with self._shifted(t):
            potential: Potential = dft.pot_calc.calculate(
                dft.density, dft.ibzwfs, None if vHt_x is None else vHt_x.copy()
            )[0]
        return potential

    def _explicit(self, t: float, potential: Potential) -> np.ndarray:
        """−∂E_pot/∂R at x + tΔ, this rank's part."""
        with self._shifted(t):
            return forces_of_potential(self.dft, potential)

    def _through_model(self, seed: ModelSeed, atoms: Atoms) -> np.ndarray:
        """∫ v′ ∂ñ/∂R + Σ_a ΔH_a′·∂D_a/∂R, this rank's part, Ha/Å.

        ñ = n N[D] / ∫n with the model's n of both spins, where N is what the compensation charges of D leave for ñ.
        """
        density = self.dft.density
        desc, grid = density.nt_sR.desc, grid_of(density.nt_sR.desc)
        v_sR, W_asii = self.dv_sR, self.ddH_asii
        nt_sR = density.nt_sR.data
        electrons = float(desc.comm.sum_scalar(float(nt_sR.sum()))) * desc.dv
        mean = float(desc.comm.sum_scalar(float(np.vdot(v_sR, nt_sR)))) * desc.dv / electrons
        n_sR = seed.evaluate(atoms, grid)[0]
        scale = electrons / (float(desc.comm.sum_scalar(float(n_sR.sum()))) * grid.dv)
        zero_asii = [np.zeros((len(v_sR), *density.delta_aiiL[a].shape[:2])) for a in range(len(atoms))]
        for a, W_sii in W_asii.items():
            zero_asii[a] = W_sii - mean * sqrt(4 * pi) * density.delta_aiiL[a][np.newaxis, :, :, 0]
        return seed.predictor.vjp(atoms, grid, scale * (v_sR - mean), zero_asii)
