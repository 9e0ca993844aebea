"""A predicted density slab by slab: for grids of which not all is held at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ase_deepdensity.checks import Tally
from ase_deepdensity.collocation.lattice_sum import (
    is_fine_enough,
    reaches_boundary_a,
    sum_of_expansion,
    sum_of_superposition,
)
from ase_deepdensity.collocation.slab_walk import SlabWalk
from ase_deepdensity.devices import default_device
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients, Matrices
from ase_deepdensity.spin import spins

if TYPE_CHECKING:
    import dask.array

    from ase_deepdensity.atoms_coefficients import AtomsCoefficients
    from ase_deepdensity.predict import Predictor

SLAB_POINTS = 2**20
"""Grid points of a slab, unless one plane has more."""


@dataclass
class PAWBlock:
    """Part of a density: a slab of the grid and ñ there."""

    grid: Grid
    """The slab."""
    nt_sR: np.ndarray
    """(1 or 2, n0, n1, n2) electrons/Å³, as in a :class:`.PAWDensity`."""


@dataclass(frozen=True)
class Share:
    """What one of several processes has of a density (see :mod:`.ranks`)."""

    slabs: list[Grid]
    """That it computes."""
    own_a: np.ndarray
    """(natoms,) which of the atoms at hand are counted here, and by no other process."""
    index_a: np.ndarray
    """(natoms,) which those at hand are among all."""
    about: AtomsCoefficients
    """All atoms, for messages; the output may be of some."""
    gathered: Callable[[Callable[[], np.ndarray]], np.ndarray]
    """Numbers (k,) that each process computes, those of all: (processes, k)."""

    @classmethod
    def of_one(cls, coefficients: AtomsCoefficients, slabs: list[Grid]) -> Share:
        """All of it."""
        natoms = len(coefficients.atoms)
        return cls(slabs, np.ones(natoms, bool), np.arange(natoms), coefficients, _alone)


def _alone(numbers: Callable[[], np.ndarray]) -> np.ndarray:
    return numbers()[None]


class _Matrices(Mapping[int, np.ndarray]):
    """In double precision, of one element at a time: those of very many atoms are large."""

    def __init__(self, D_zesaii: Matrices, nspins: int):
        self._D_zesaii, self._nspins = D_zesaii, nspins

    def __getitem__(self, Z: int) -> np.ndarray:
        return spins(self._D_zesaii[Z][0].double().cpu().numpy(), self._nspins)

    def __iter__(self) -> Iterator[int]:
        return iter(self._D_zesaii)

    def __len__(self) -> int:
        return len(self._D_zesaii)


class SlabDensity:
    """ñ on slabs of a grid, in any order (quickest in that of the grid), normalised like :meth:`.Predictor.predict`.

    Parameters
    ----------
    coefficients
        What the network says, :meth:`.Predictor.coefficients`.
    grid
        The whole grid.
    max_points
        Of a slab, but at least one plane.
    share
        Where several processes have a part each; ``coefficients`` are then those of the atoms that reach it.

    Raises
    ------
    PredictionError
        As :meth:`.Predictor.check`, but for density below zero: that is found slab by slab.
    """

    def __init__(
        self,
        predictor: Predictor,
        coefficients: AtomsCoefficients,
        grid: Grid,
        max_points: int = SLAB_POINTS,
        share: Share | None = None,
    ):
        self.predictor, self.coefficients, self.grid, self.max_points = predictor, coefficients, grid, max_points
        self.share = Share.of_one(coefficients, list(grid.slabs(max_points))) if share is None else share
        self._positions_av = coefficients.atoms.positions
        self._output = coefficients.output.mean()
        self._walk = self._walk_of(np.arange(len(coefficients.atoms)))
        integral, electrons = self.share.gathered(
            lambda: np.array([self._integral(), predictor.electrons(coefficients, self.share.own_a)])
        ).sum(0)
        self._electrons = electrons - coefficients.charge
        self._so_far = Tally(integral, 0.0, np.inf, np.zeros(3))
        self._is_refused = False
        self._lock = Lock()
        self.scale = self._check(self._so_far)
        """What ñ is multiplied with for the right number of electrons."""

    def __call__(self, slab: Grid) -> np.ndarray:
        """(1 or 2, n0, n1, n2) electrons/Å³.

        Raises
        ------
        PredictionError
            Too much of the density is below zero in the slabs that have been asked for.
        """
        with self._lock:  # of several threads one works at a time: all share what is made of the coefficients
            component_sR = self._components(self._walk, slab)
            self._so_far += replace(Tally.of(component_sR[0], slab), integral=0.0)
            if not self._is_refused and self._so_far.is_too_negative(self._electrons):
                self._check(self._so_far)
                self._is_refused = True
        nt_sR: np.ndarray = spins(component_sR, self.nspins) * self.scale
        return nt_sR

    def finish(self) -> None:
        """Where several processes share it: check what all have asked for, see :meth:`__call__`."""
        mine = self._so_far
        total = Tally(mine.integral, 0.0, np.inf, np.zeros(3))
        for negative, lowest, *place_v in self.share.gathered(
            lambda: np.array([mine.negative, mine.lowest, *mine.place_v])
        ):
            total += Tally(0.0, negative, lowest, np.array(place_v))
        self._check(total)

    def _check(self, tally: Tally) -> float:
        return self.predictor.check(self.share.about, tally, self._electrons)

    @property
    def nspins(self) -> int:
        """1, or 2 where there is a magnetisation."""
        return self.share.about.nspins

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the work: more digits than it has mean nothing."""
        return np.dtype(np.float64 if self.predictor.dtype == torch.float64 else np.float32)

    @property
    def planes(self) -> int:
        """Of a slab."""
        return max(1, self.max_points // max(1, self.grid.shape[1] * self.grid.shape[2]))

    def D_zsaii(self) -> Mapping[int, np.ndarray]:
        """By atomic number (1 or 2, natoms of it, ni, ni), float64: density matrices, made when they are asked for."""
        return _Matrices(self._output.D_zesaii, self.nspins)

    def lazy(self) -> dask.array.Array:
        """(1 or 2, n0, n1, n2) electrons/Å³, of which what is asked for is computed: see :meth:`.Predictor.lazy`."""
        import dask.array
        from dask.delayed import delayed

        evaluate, nspins = delayed(self, pure=True), self.nspins
        slabs = list(self.grid.slabs(self.max_points))
        parts = [dask.array.from_delayed(evaluate(slab), (nspins, *slab.shape), dtype=np.float64) for slab in slabs]
        return dask.array.concatenate(parts, axis=1)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy() | {'_lock': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {'_lock': Lock()}

    def __iter__(self) -> Iterator[PAWBlock]:
        for slab in self.share.slabs:
            yield PAWBlock(slab, self(slab))

    def _walk_of(self, atoms_a: np.ndarray) -> SlabWalk:
        """Over some of the atoms."""
        predictor = self.predictor
        position_av = torch.from_numpy(self._positions_av[atoms_a]).to(predictor.device)
        output = self._output
        if len(atoms_a) < len(self._positions_av):
            assert isinstance(output, Coefficients)
            output = replace(output, c_lesanm=[c_esanm[:, :, atoms_a] for c_esanm in output.c_lesanm], file=None)
        number_a = self.coefficients.atoms.numbers[atoms_a]
        return SlabWalk(predictor.evaluator, output, self.grid, position_av, number_a, predictor.model.superposition)

    @staticmethod
    def _components(walk: SlabWalk, slab: Grid) -> np.ndarray:
        with torch.no_grad(), default_device('cpu'):
            component_sR: np.ndarray = walk(slab).cpu().numpy()
        return component_sR

    def _integral(self) -> float:
        """∫ñ as the sum over the grid's points has it, electrons; ñ as the network says it; of a share, its part.

        For most atoms it follows from their coefficients; where a boundary cuts an atom off, from its points.
        """
        model, output = self.predictor.model, self._output
        if not isinstance(output, Coefficients) or not is_fine_enough(self.grid):
            return self._sum(self._walk)
        basis, tables, number_a = model.architecture.basis, model.superposition, self.coefficients.atoms.numbers
        cut_a = reaches_boundary_a(self.grid, self._positions_av, model.longest_cutoff)
        inner_a = np.flatnonzero(~cut_a & self.share.own_a)
        c_lanm = [c_esanm[0, 0] for c_esanm in output.c_lesanm]
        total = sum_of_expansion(basis, self.grid, self._positions_av, c_lanm, inner_a, output.release)
        total += sum_of_superposition(self.grid, self._positions_av[inner_a], number_a[inner_a], tables)
        return total + (self._sum(self._walk_of(np.flatnonzero(cut_a))) if cut_a.any() else 0.0)

    def _sum(self, walk: SlabWalk) -> float:
        return sum(float(self._components(walk, slab)[0].sum()) * self.grid.dv for slab in self.share.slabs)
