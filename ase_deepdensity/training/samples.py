"""Snapshots as a training sees them: what the network is given, what it has to add to the superposition of atoms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.dataset.files import Snapshot
from ase_deepdensity.evaluate.density import DensityEvaluator
from ase_deepdensity.evaluate.superposition import RadialTable, superpose
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import DensityNetwork, Matrices, Output
from ase_deepdensity.network.system import System
from ase_deepdensity.system import system_of


@dataclass
class Sample:
    """One snapshot.

    Parameters
    ----------
    name
        Of its file.
    target_R
        ñ − ñ_superposition on the grid, electrons/Å³, float32.
    electrons
        Σ_R ñ_R, the denominator of the NMAE (electrons/Å³).
    D_zaii
        Atomic density matrices of each element that occurs, (natoms, ni, ni), by atomic number.
    Delta_zii
        What D of each element adds to the compensation charges, electrons: √(4π) Δ_ij00, (ni, ni).
    fixed_charge
        The compensation charges where D is zero, and all others that ∫ñ balances, electrons.
    nt_R
        ñ on the grid, electrons/Å³, float32; None where it is not kept.
    """

    name: str
    system: System
    grid: Grid
    positions_av: np.ndarray
    target_R: torch.Tensor
    electrons: float
    D_zaii: Matrices
    Delta_zii: dict[int, torch.Tensor]
    fixed_charge: float
    nt_R: torch.Tensor | None = None

    @classmethod
    def from_snapshot(
        cls,
        snapshot: Snapshot,
        name: str,
        network: DensityNetwork,
        superposition: dict[int, RadialTable],
        device: torch.device,
        *,
        keep_density: bool = False,
    ) -> Sample:
        """Prepare a spin-paired snapshot; ``keep_density``: for :meth:`normalized_error`.

        Raises
        ------
        ValueError
            A spin-polarised snapshot.
        """
        density, atoms = snapshot.density, snapshot.atoms
        if density.nspins != 1:
            raise ValueError(f'{name}: spin-polarised; networks are trained on spin-paired densities')
        system = system_of(atoms, network, density.level)
        nt_R = density.nt_sR[0]
        target_R = nt_R - superpose(density.grid, atoms.positions, atoms.numbers, superposition, np.float64)
        D_zaii = {
            Z: torch.from_numpy(np.stack([density.D_asii[a][0] for a in system.atoms_of(Z)])).float().to(device)
            for Z in system.numbers
        }
        setups = density.level.setups(system.numbers)
        all_setups = density.level.setups(atoms.numbers)
        fixed_charge = sqrt(4 * pi) * sum(setup.Delta0 for setup in all_setups) + all_setups.core_charge
        return cls(
            name,
            system.to(device, torch.float32),
            density.grid,
            atoms.positions,
            torch.from_numpy(target_R).float().to(device),
            float(nt_R.sum()),
            D_zaii,
            {
                Z: torch.from_numpy(sqrt(4 * pi) * setup.Delta_iiL[:, :, 0]).to(device)
                for Z, setup in zip(system.numbers, setups, strict=True)
            },
            fixed_charge + density.level.charge,
            torch.from_numpy(nt_R).float().to(device) if keep_density else None,
        )

    @property
    def natoms(self) -> int:
        return len(self.positions_av)

    def normalized_error(self, error_R: torch.Tensor, D_zaii: Matrices) -> torch.Tensor:
        """Error of ñ on the whole grid once the predicted density is normalised at the predicted D.

        With ñ_ref + error normalised by the factor f (:meth:`.PAWDensity.normalized`), f error + (f − 1) ñ_ref;
        infinite where no factor is right.
        """
        assert self.nt_R is not None, 'a sample that has kept its density'
        charge = self.fixed_charge + sum(
            float((D_aii.double() * self.Delta_zii[Z]).sum()) for Z, D_aii in D_zaii.items()
        )
        integral = float((error_R + self.nt_R).sum(dtype=torch.float64)) * self.grid.dv
        if not integral > 0:
            return torch.full_like(error_R, torch.inf)
        factor = -charge / integral
        return factor * error_R + (factor - 1) * self.nt_R


class GridSampler:
    """Densities on a coset of a sample's grid: every n-th point along each axis, from an offset on.

    A coset of a uniform grid is a uniform grid with moved atoms, so that the hot loop serves as it is.
    """

    def __init__(self, basis: SplineBasis):
        self.evaluate = DensityEvaluator(basis)

    def strides(self, grid: Grid, stride: int) -> np.ndarray:
        """(3,) the largest numbers up to ``stride`` that divide the grid where it wraps around, and leave points."""
        return np.array(
            [
                max(s for s in range(1, min(stride, points) + 1) if zero or n % s == 0)
                for n, points, zero in zip(grid.size_c, grid.shape, grid.zerobc_c, strict=True)
            ]
        )

    def __call__(
        self, sample: Sample, output: Output, stride: int, rng: np.random.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Predicted and wanted total on a coset (drawn by ``rng``), and how many points stand for each of its.

        The prediction is the mean over an ensemble's members.
        """
        stride_c = self.strides(sample.grid, stride)
        offset_c = np.zeros(3, int) if rng is None else np.array([rng.integers(s) for s in stride_c])
        o0, o1, o2 = offset_c
        target_R = sample.target_R[o0 :: stride_c[0], o1 :: stride_c[1], o2 :: stride_c[2]]
        grid = self._coset(sample.grid, stride_c, target_R.shape)
        # The first point of a coset has the index 1 beside a zero boundary, 0 elsewhere.
        first_c = sample.grid.start_c + offset_c - stride_c * grid.zerobc_c
        moved_av = sample.positions_av - first_c @ sample.grid.step_cv
        density_R = self.evaluate(output, grid, moved_av, target_R.device)[:, 0].mean(0)
        return density_R, target_R, int(stride_c.prod())

    @staticmethod
    def _coset(grid: Grid, stride_c: np.ndarray, shape: Iterable[int]) -> Grid:
        size_c = np.where(grid.zerobc_c, np.array(list(shape)) + 1, grid.size_c // stride_c)
        step_cv = grid.step_cv * stride_c[:, None]
        return Grid(step_cv * size_c[:, None], size_c, grid.pbc_c, grid.zerobc_c)
