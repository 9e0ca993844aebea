"""How residuals answer to changes of the density, and what the next step of a trajectory is told of it.

Between two iterations of a cycle the density x = (ñ, D) has changed by Δx and its residual r(x) by Δr.  How these go
together hardly changes with small displacements of the atoms: the next cycle's mixer is given those of the last ones as
if it had been at x + Δx, with the residual r + Δr, before.  Pulay's mixer (doi:10.1016/0009-2614(80)80396-4) then has
at its first step what it would have had to find out.  Such a step is also added to what a cycle has come to before that
is carried along (:mod:`.history`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gpaw.mpi import broadcast_float

from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.scf.default_start import State
from ase_deepdensity.scf.history import fitted

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density

DEPTH = 12
"""Secants that are remembered."""
ERROR = 0.1
"""Share of Δr that is likely to be wrong: atoms have moved, and orbitals were on their way."""


@dataclass(frozen=True)
class Secant:
    """Differences of two iterations."""

    dx: State
    dr: State

    def share(self, density: Density, comm: MPIComm) -> float | None:
        """The share β of the residual that would have been best: −⟨Δx, Δr⟩ / |Δr|² over ñ, between 0.4 and 1.

        J. Barzilai, J. M. Borwein, doi:10.1093/imanum/8.1.141; None where nothing has changed.
        """
        dr_sR = self.dr.nt_sR
        products = np.array([-np.vdot(self.dx.nt_sR, dr_sR).real, np.vdot(dr_sR, dr_sR).real])
        density.nt_sR.desc.comm.sum(products)
        if not products[1] > 0:
            return None
        return float(broadcast_float(float(np.clip(products[0] / products[1], 0.4, 1.0)), comm))


def teach(mixer: Any, density: Density, residual: State, secants: Sequence[Secant]) -> None:
    """Let Pulay's mixer begin at a density with this residual and know of secants, the newest of which comes first."""
    begin = State.of(density)
    for secant in reversed(secants):
        secant.dx.add_to(density)
        seams.begin_mixing(mixer, density)
        residual.add_to(density)
        secant.dr.add_to(density)
        mixer.mix(density)
        seams.doubt_last_residual(mixer, density, secant.dr.nt_sR, secant.dr.D_asii, ERROR)
        begin.put(density)
    seams.begin_mixing(mixer, density)


def add_next_step(state: State, residual: State, secants: Sequence[Secant], share: float, density: Density) -> None:
    """Add Σ γ Δx + β (r + Σ γ Δr) to a state with the residual r, where γ makes the bracket small.

    The products are those of ñ alone.

    Parameters
    ----------
    share
        β.
    density
        For its grid, whose ranks all get the same γ.
    """
    state.add(residual, share)
    answers = [secant.dr.nt_sR for secant in secants]
    gamma_k = fitted(answers, -residual.nt_sR, ERROR**2, density.nt_sR.desc.comm)
    for gamma, secant in zip(gamma_k, secants, strict=True):
        state.add(secant.dx, gamma)
        state.add(secant.dr, gamma * share)
