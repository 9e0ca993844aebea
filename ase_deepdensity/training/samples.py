"""Snapshots as a training sees them: what the network is given, what it has to add to the superposition of atoms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ase_deepdensity.atoms_graph import atoms_graph
from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.radial_table import RadialTable
from ase_deepdensity.dataset.files import Snapshot
from ase_deepdensity.evaluate.density import DensityEvaluator
from ase_deepdensity.evaluate.superposition import superpose
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import DensityNetwork, Output
from ase_deepdensity.network.graph import Graph
from ase_deepdensity.paw import AtomType, pseudo_electrons


@dataclass
class Sample:
    """One snapshot, its atoms sorted by species.

    Parameters
    ----------
    name
        Of its file.
    target_R
        ñ − ñ_superposition on the grid, electrons/Å³, float32.
    electrons
        Σ_R ñ_R, the denominator of the NMAE (electrons/Å³).
    D_saii
        Atomic density matrices of each species, (natoms, ni, ni).
    atom_types
        Of each atom.
    charge
        Total charge of the system, |e|.
    nt_R
        ñ on the grid, electrons/Å³, float32; None where it is not kept.
    """

    name: str
    graph: Graph
    grid: Grid
    positions_av: np.ndarray
    target_R: torch.Tensor
    electrons: float
    D_saii: list[torch.Tensor]
    atom_types: list[AtomType]
    charge: float
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
        types = density.types()
        electrons = sum(atom_type.nvalence for atom_type in types) - density.charge
        graph = atoms_graph(atoms, network, density.level, electrons=electrons)
        order_a = graph.order_a.numpy()
        positions_av, numbers_a = atoms.positions[order_a], atoms.numbers[order_a]
        nt_R = density.nt_sR[0]
        target_R = nt_R - superpose(density.grid, positions_av, numbers_a, superposition, np.float64)
        D_aii = [torch.from_numpy(density.D_asii[a][0]).float() for a in order_a]
        return cls(
            name,
            graph.to(device, torch.float32),
            density.grid,
            positions_av,
            torch.from_numpy(target_R).float().to(device),
            float(nt_R.sum()),
            [_stack(D_aii[atoms]).to(device) for atoms in graph.slices],
            [types[a] for a in order_a],
            density.charge,
            torch.from_numpy(nt_R).float().to(device) if keep_density else None,
        )

    @property
    def natoms(self) -> int:
        return len(self.positions_av)

    def normalized_error(self, error_R: torch.Tensor, D_saii: list[torch.Tensor]) -> torch.Tensor:
        """Error of ñ on the whole grid once the predicted density is normalised at the predicted D.

        With ñ_ref + error normalised by the factor f (:meth:`.PAWDensity.normalized`), f error + (f − 1) ñ_ref;
        infinite where no factor is right.
        """
        assert self.nt_R is not None, 'a sample that has kept its density'
        D_asii = [D_ii.double().cpu().numpy()[np.newaxis] for D_aii in D_saii for D_ii in D_aii]
        integral = float((error_R + self.nt_R).sum(dtype=torch.float64)) * self.grid.dv
        if not integral > 0:
            return torch.full_like(error_R, torch.inf)
        factor = pseudo_electrons(D_asii, self.atom_types, self.charge) / integral
        return factor * error_R + (factor - 1) * self.nt_R


def _stack(D_aii: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(D_aii) if D_aii else torch.zeros(0, 0, 0)


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
        """Predicted and wanted density on a coset (drawn by ``rng``), and how many points stand for each of its."""
        stride_c = self.strides(sample.grid, stride)
        offset_c = np.zeros(3, int) if rng is None else np.array([rng.integers(s) for s in stride_c])
        o0, o1, o2 = offset_c
        target_R = sample.target_R[o0 :: stride_c[0], o1 :: stride_c[1], o2 :: stride_c[2]]
        grid = self._coset(sample.grid, stride_c, target_R.shape)
        # The first point of a coset has the index 1 beside a zero boundary, 0 elsewhere.
        first_c = sample.grid.start_c + offset_c - stride_c * grid.zerobc_c
        moved_av = sample.positions_av - first_c @ sample.grid.step_cv
        density_R = self.evaluate(output, grid, moved_av, target_R.device)
        return density_R, target_R, int(stride_c.prod())

    @staticmethod
    def _coset(grid: Grid, stride_c: np.ndarray, shape: Iterable[int]) -> Grid:
        size_c = np.where(grid.zerobc_c, np.array(list(shape)) + 1, grid.size_c // stride_c)
        step_cv = grid.step_cv * stride_c[:, None]
        return Grid(step_cv * size_c[:, None], size_c, grid.pbc_c, grid.zerobc_c)
