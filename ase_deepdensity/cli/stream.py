"""One slab of a density at a time into a file: by one process, or by the ranks of MPI together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_deepdensity.cli.outputs import file_kind

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from gpaw.mpi import MPIComm

    from ase_deepdensity.atoms_coefficients import AtomsCoefficients
    from ase_deepdensity.grid import Grid
    from ase_deepdensity.predict import Predictor
    from ase_deepdensity.slabs import SlabDensity


@dataclass
class Streamed:
    """A density that is to be written."""

    predictor: Predictor
    atoms: Atoms
    grid: Grid
    path: Path
    comm: MPIComm
    """Of all ranks, which call everything alike."""

    def write(self) -> None:
        """Predict, write, and print what there is to say."""
        from tqdm import tqdm

        from ase_deepdensity.checks import check_size
        from ase_deepdensity.slabs import SLAB_POINTS, SlabDensity

        check_size(self.grid, SLAB_POINTS)
        print(grid_line(self.grid), flush=True)
        if self.comm.size == 1:
            density = SlabDensity(self.predictor, self.predictor.coefficients(self.atoms), self.grid)
        else:
            from ase_deepdensity.ranks import density_of_ranks

            density = density_of_ranks(self.predictor, self.atoms, self.grid, self.comm)
        print(distance_line(density.share.about), flush=True)
        quiet = None if self.comm.rank == 0 else True
        blocks = tqdm(density, total=len(density.share.slabs), unit='slab', disable=quiet, leave=False)
        if self.comm.size == 1:
            slabs = ((block.grid, block.nt_sR.astype(density.dtype)) for block in blocks)
            self._write_slabs(density, slabs, density.D_zsaii())
        else:
            self._write_together(density, blocks)
        print(f'wrote      {self.path}' + (' (smooth density)' if self.path.suffix == '.cube' else ''), flush=True)

    def _write_together(self, density: SlabDensity, blocks: Iterable[Any]) -> None:
        """Zarr by all ranks, other files by rank 0."""
        from ase_deepdensity.dataset.zarr_folder import write_zarr
        from ase_deepdensity.ranks import computed, matrices_on_rank_0, on_rank_0

        D_zsaii = matrices_on_rank_0(density, self.comm)
        if file_kind(self.path.name) == 'zarr':
            slabs = ((block.grid, block.nt_sR.astype(density.dtype)) for block in blocks)
            more = self._zarr(density) | {'comm': self.comm, 'finish': density.finish}
            write_zarr(self.path, self.atoms, self.grid, slabs, D_zsaii, **more)
            return
        mine = computed(density, self.comm, blocks)
        with on_rank_0(density, self.comm, mine) as all_slabs:
            if all_slabs is not None:
                self._write_slabs(density, all_slabs, D_zsaii)

    def _write_slabs(
        self, density: SlabDensity, slabs: Iterable[tuple[Grid, np.ndarray]], D_zsaii: Mapping[int, np.ndarray]
    ) -> None:
        from ase_deepdensity.dataset.density_file import write_density_slabs
        from ase_deepdensity.dataset.volumetric import with_boundaries, write_cube_slabs
        from ase_deepdensity.dataset.zarr_folder import write_zarr

        kind, where = file_kind(self.path.name), (self.path, self.atoms, self.grid)
        if kind == 'cube':
            totals = (with_boundaries(slab, nt_sR.sum(axis=0)) for slab, nt_sR in slabs)
            write_cube_slabs(self.path, self.atoms, self.grid.size_c, totals)
        elif kind == 'zarr':
            write_zarr(*where, slabs, D_zsaii, **self._zarr(density))
        else:
            types = self.predictor.model.atom_types
            write_density_slabs(*where, slabs, D_zsaii, atom_types=types, **self._origin(density))

    def _origin(self, density: SlabDensity) -> dict[str, Any]:
        charge = density.coefficients.charge
        return {'level': self.predictor.level, 'charge': charge, 'planes': density.planes}

    def _zarr(self, density: SlabDensity) -> dict[str, Any]:
        more = {'nspins': density.nspins, 'dtype': density.dtype, 'model': self.predictor.model.name}
        return self._origin(density) | more


def grid_line(grid: Grid) -> str:
    return f'grid       {"×".join(map(str, grid.size_c))}, {" ".join(f"{h:.3f}" for h in grid.spacing_c)} Å'


def distance_line(coefficients: AtomsCoefficients) -> str:
    worst = int(coefficients.unfamiliar_a.argmax())
    distance = coefficients.unfamiliar_a[worst]
    return (
        f'strangest  atom {worst} ({coefficients.atoms.symbols[worst]}): {distance:.2f} times as far from the training '
        'data as most of these are from the rest'
    )
