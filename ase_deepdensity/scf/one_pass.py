"""OnePassGPAW: energy and forces from one non-self-consistent pass at the predicted state.

GPAW's energy after a pass at the density x = (ñ, D) is the Harris–Foulkes functional (doi:10.1103/PhysRevB.31.1770),

    E1[x; R] = Σ_n f_n ε_n[v] − ∫ v (ñ − ñ_c) − Σ_a D_a·ΔH_a + E_pot[x; R],    v = δE_pot/δñ,  ΔH_a = ∂E_pot/∂D_a,

whose error is of second order in that of x.  The eigenvalues are stationary with respect to the orbitals, so

    dE1 = ∫ (ñ_out − ñ) dv + Σ_a (D_out,a − D_a)·dΔH_a + (terms at fixed v and ΔH),

and as v and ΔH are derivatives of one functional, with Δ = x_out − x and the derivative d/dt along x + tΔ,

    dE1/dR = −F_GPAW(x) + d/dt ∂E_pot/∂R [x + tΔ] + ∫ (dv/dt) ∂ñ/∂R + Σ_a (dΔH_a/dt)·∂D_a/∂R.

F_GPAW is what GPAW's own routines return at x.  The second term is what the residual's potential does to all that moves
with the atoms at fixed x (compensation charges, local potentials); GPAW gives it from the potential at x + tΔ.  The last
two are one vector–Jacobian product through the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Ha
from gpaw.mpi import broadcast_float
from gpaw.new.scf import SCFContext, SCFLoop

from ase_deepdensity.scf.calculator import SeededGPAW
from ase_deepdensity.scf.protocol import SeededLoop, State
from ase_deepdensity.scf.seed import ModelSeed, grid_of

if TYPE_CHECKING:
    from gpaw.new.density import Density
    from gpaw.new.potential import Potential

STEP = 0.02
"""t of the one-sided derivative along the residual: what is left of third order falls with it, rounding errors rise."""


@dataclass
class OnePassReport:
    """The error bar of one pass."""

    residual: float
    """‖ñ_out − ñ_in‖, electrons."""
    residual_per_electron: float
    iterations: int
    """Of the eigensolver at the predicted state."""
    went_on: bool = False
    """The residual was above what was asked for: the result is that of an SCF cycle."""
    energy_error: float | None = None
    """Estimate of E1 − E_SCF, eV: −½ ⟨Δ, K Δ⟩/ε with ε = 1.7; known after the forces, or when asked for by ``until``."""


class OnePassLoop(SeededLoop):
    """The eigensolver at a fixed density; then, if the residual is too large, GPAW's loop."""

    def iterate(  # type: ignore[no-untyped-def]
        self, ibzwfs, density, potential, energies, pot_calc, **kwargs
    ) -> Iterator[SCFContext]:
        all_criteria = self.convergence
        self.convergence = {name: all_criteria[name] for name in ('eigenstates',)}
        self.update_density_and_potential = False
        try:
            yield from SCFLoop.iterate(self, ibzwfs, density, potential, energies, pot_calc, **kwargs)
        finally:
            self.convergence = all_criteria
            self.update_density_and_potential = True


class OnePassGPAW(SeededGPAW):
    loop_type = OnePassLoop

    def __init__(self, model: Any, *, until: dict[str, float] | None = None, **kwargs: Any):
        super().__init__(model, carry=False, **kwargs)
        self.until = until
        self.report: OnePassReport | None = None

    def calculate_property(self, atoms: Atoms | None, prop: str) -> Any:
        if prop == 'forces':
            super().calculate_property(atoms, 'energy')
            if 'forces' not in self.dft.results:
                self.dft.results['forces'] = self._forces()
        return super().calculate_property(atoms, prop)

    def _forces(self):
        dft = self.dft
        density, pot_calc, ibzwfs = dft.density, dft.pot_calc, dft.ibzwfs
        F_av = dft._calculate_forces().copy()
        del dft.results['forces']
        before = State.of(density)
        density.nt_sR.data[:] = 0.0
        density.D_asii.data[:] = 0.0
        ibzwfs.add_to_density(density.nt_sR, density.D_asii)
        density.nt_sR.data[: density.ndensities] += density.nct_R.data
        raw = density.nt_sR.integrate().sum()
        ibzwfs.normalize_density(density)
        norm = density.nt_sR.integrate().sum() / raw
        density.symmetrize(ibzwfs.ibz.symmetries)
        delta = State.of(density).minus(before)
        self.norm = norm
        before.put(density)
        residual = delta.electrons(density)
        # potentials
        F0 = self._potential_forces(density, dft.potential)
        density.nt_sR.data += STEP * delta.nt_sR
        density.D_asii.data += STEP * delta.D_asii
        pot, _, _ = pot_calc.calculate(density, ibzwfs, None if dft.potential.vHt_x is None else dft.potential.vHt_x.copy())
        F1 = self._potential_forces(density, pot)
        before.put(density)
        if hasattr(pot_calc, '_reset'):
            pot_calc._reset()
        F_av += (F1 - F0) / STEP
        dv_sR = (pot.vt_sR.data - dft.potential.vt_sR.data) / STEP
        ddH = (pot.dH_asii.data - dft.potential.dH_asii.data) / STEP
        ddH_asii = density.D_asii.new(data=ddH)
        energy = np.vdot(dv_sR, delta.nt_sR) * density.nt_sR.desc.dv
        energy = density.nt_sR.desc.comm.sum_scalar(energy) + density.D_asii.layout.atomdist.comm.sum_scalar(
            float(np.vdot(ddH, delta.D_asii))
        )
        self.report = OnePassReport(residual, residual / (density.nvalence - density.charge), 0, False, -0.5 * energy / 1.7 * Ha)
        self.parts = dict(gpaw=F_av - (F1 - F0) / STEP, explicit=(F1 - F0) / STEP)
        G = self._response(density, dv_sR[0], ddH_asii)
        self.parts['response'] = -G
        return F_av - G

    def _potential_forces(self, density, potential):
        Q_aL = density.calculate_compensation_charge_coefficients()
        if hasattr(self.dft.pot_calc, '_reset'):
            self.dft.pot_calc._reset()
        Fcc, _, _, Fvbar, Fext = self.dft.pot_calc.force_contributions(Q_aL, density, potential)
        F_av = Fcc.copy()
        for a, dF_v in Fvbar.items():
            F_av[a] += dF_v[:, 0]
        self.comm_domain.sum(F_av)
        return F_av

    @property
    def comm_domain(self):
        return self.dft.density.nt_sR.desc.comm

    def _response(self, density, v_R, W_asii):
        """Ha/Bohr; normalisation included"""
        seed = self.seed
        atoms = self.atoms
        grid = grid_of(density.nt_sR.desc)
        known = seed.coefficients(atoms)
        nt_raw = seed.evaluate(atoms, grid)[0][0] * Bohr**3
        comm = self.comm_domain
        dv = density.nt_sR.desc.dv
        I = comm.sum_scalar(float(nt_raw.sum())) * dv
        N = comm.sum_scalar(float(density.nt_sR.data.sum())) * dv
        mean = comm.sum_scalar(float(np.vdot(v_R, nt_raw))) * dv / I
        x = N / I
        W_a = []
        for a in range(len(atoms)):
            if a in W_asii:
                W_a.append(np.array(W_asii[a]) - mean * sqrt(4 * pi) * density.delta_aiiL[a][None, :, :, 0])
            else:
                W_a.append(np.zeros_like(known.D_asii()[a]))
        G = seed.vjp(atoms, grid, x * (v_R - mean) , W_a)
        comm.sum(G)
        return G * Bohr
