"""What the energy of one pass depends on: the density that comes out, and the forces that are its exact derivative.

GPAW's energy after a pass at the state x = (ñ, D) is the Harris–Foulkes functional (doi:10.1103/PhysRevB.31.1770),

    E1[x; R] = Σ_n f_n ε_n − ∫ v (ñ − ñ_c) − Σ_a D_a·ΔH_a + E_pot[x; R],     v = δE_pot/δñ,  ΔH_a = ∂E_pot/∂D_a,

whose error is of second order in that of x.  Eigenvalues are stationary with respect to the orbitals, so

    dE1 = ∫ (ñ_out − ñ) dv + Σ_a (D_out,a − D_a)·dΔH_a + (what GPAW's forces hold: explicit terms at x).

v and ΔH are derivatives of one functional.  With Δ = x_out − x and ′ the derivative along x + tΔ at t = 0,

    dE1/dR = −F_GPAW[x] + (∂E_pot/∂R)′ + ∫ v′ ∂ñ/∂R + Σ_a ΔH_a′·∂D_a/∂R.

The second term is what the potential of the residual does to all that moves with the atoms at fixed x: compensation
charges and local potentials.  The last two are one vector–Jacobian product through the model.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Ha

from ase_deepdensity.scf.protocol import State
from ase_deepdensity.scf.seed import ModelSeed, grid_of

if TYPE_CHECKING:
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.new.calculation import DFT
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions
    from gpaw.new.potential import Potential

STEP = 0.02
"""t of the one-sided derivative: the error of its truncation is of third order in the residual, and t times smaller."""
SCREENING = 1.7
"""Dielectric constant in the estimate of the energy's error: about that of a molecular liquid at optical frequency."""


def output(density: Density, ibzwfs: IBZWaveFunctions[Any]) -> State:
    """ñ and D of the orbitals, symmetric, with the norm that the grid gives them: the derivative of the eigenvalues."""
    before = State.of(density)
    density.nt_sR.data[:] = 0.0
    density.D_asii.data[:] = 0.0
    ibzwfs.add_to_density(density.nt_sR, density.D_asii)
    density.nt_sR.data[: density.ndensities] += density.nct_R.data
    density.symmetrize(ibzwfs.ibz.symmetries)
    after = State.of(density)
    before.put(density)
    return after


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
        self.delta = output(density, dft.ibzwfs).minus(State.of(density))
        self.electrons = self.delta.electrons(density)
        """‖ñ_out − ñ‖, electrons."""
        self.per_electron = self.electrons / (density.nvalence - density.charge)
        self._potential: Potential | None = None

    @property
    def potential(self) -> Potential:
        """At x + STEP Δ."""
        if self._potential is None:
            dft, density = self.dft, self.dft.density
            vHt_x = dft.potential.vHt_x
            before = self._shift()
            self._potential, _, _ = dft.pot_calc.calculate(density, dft.ibzwfs, None if vHt_x is None else vHt_x.copy())
            before.put(density)
        return self._potential

    @property
    def dv_sR(self) -> np.ndarray:
        """v′, Ha."""
        return (self.potential.vt_sR.data - self.dft.potential.vt_sR.data) / STEP

    @property
    def ddH_asii(self) -> AtomArrays:
        """ΔH′, Ha."""
        dH_asii = self.potential.dH_asii.copy()
        dH_asii.data -= self.dft.potential.dH_asii.data
        dH_asii.data /= STEP
        return dH_asii

    def energy_error(self) -> float:
        """An estimate of E1 − E_SCF, eV: −⟨Δ, x′⟩ / 2ε, with the response of all electrons in one number ε."""
        desc = self.dft.density.nt_sR.desc
        product = float(np.vdot(self.dv_sR, self.delta.nt_sR).real) * desc.dv
        product += float(np.vdot(self.ddH_asii.data, self.delta.D_asii.data).real)
        return float(-desc.comm.sum_scalar(product) / (2 * SCREENING) * Ha)

    def forces(self, seed: ModelSeed, atoms: Atoms) -> np.ndarray:
        """−dE1/dR, (natoms, 3), Ha/bohr, the same on all ranks."""
        dft = self.dft
        F_av = dft._calculate_forces().copy()
        correction_av = self._explicit() - self._through_model(seed, atoms) * Bohr
        dft.density.nt_sR.desc.comm.sum(correction_av)
        F_av += dft.ibzwfs.ibz.symmetries.symmetrize_forces(correction_av)
        dft.comm.broadcast(F_av, 0)
        return F_av

    def _shift(self) -> State:
        """Let GPAW's density be x + STEP Δ; returns x."""
        density = self.dft.density
        before = State.of(density)
        density.nt_sR.data += STEP * self.delta.nt_sR
        density.D_asii.data += STEP * self.delta.D_asii.data
        return before

    def _explicit(self) -> np.ndarray:
        """−(∂E_pot/∂R)′, this rank's part."""
        potential = self.potential
        F_av = self._of_potential(self.dft.potential)
        before = self._shift()
        F1_av = self._of_potential(potential)
        before.put(self.dft.density)
        return (F1_av - F_av) / STEP

    def _of_potential(self, potential: Potential) -> np.ndarray:
        """−∂E_pot/∂R at GPAW's present density, this rank's part."""
        pot_calc, density = self.dft.pot_calc, self.dft.density
        if hasattr(pot_calc, '_reset'):
            pot_calc._reset()  # plane waves keep the last transforms of density and potential
        Q_aL = density.calculate_compensation_charge_coefficients()
        F_av, _, _, Fvbar_av, _ = pot_calc.force_contributions(Q_aL, density, potential)
        F_av = F_av.copy()
        for a, F_1v in Fvbar_av.items():
            F_av[a] += F_1v[:, 0]
        if hasattr(pot_calc, '_reset'):
            pot_calc._reset()
        return F_av

    def _through_model(self, seed: ModelSeed, atoms: Atoms) -> np.ndarray:
        """∫ v′ ∂ñ/∂R + Σ_a ΔH_a′·∂D_a/∂R, this rank's part, Ha/Å.

        ñ = n N[D] / ∫n with the model's n, where N is what the compensation charges of D leave for ñ.
        """
        density = self.dft.density
        desc, grid = density.nt_sR.desc, grid_of(density.nt_sR.desc)
        v_R, W_asii = self.dv_sR[0], self.ddH_asii
        nt_R = density.nt_sR.data[0]
        electrons = float(desc.comm.sum_scalar(float(nt_R.sum()))) * desc.dv
        mean = float(desc.comm.sum_scalar(float(np.vdot(v_R, nt_R)))) * desc.dv / electrons
        n_R = seed.evaluate(atoms, grid)[0][0]
        scale = electrons / (float(desc.comm.sum_scalar(float(n_R.sum()))) * grid.dv)
        zero_asii = [np.zeros((1, n, n)) for n in (len(density.delta_aiiL[a]) for a in range(len(atoms)))]
        for a, W_sii in W_asii.items():
            zero_asii[a] = W_sii - mean * sqrt(4 * pi) * density.delta_aiiL[a][np.newaxis, :, :, 0]
        return seed.predictor.vjp(atoms, grid, scale * (v_R - mean), zero_asii)
