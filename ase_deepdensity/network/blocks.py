"""A large system in blocks: some atoms at a time, with all others that what is said of them depends on.

A network with n layers hears of an atom over n steps from neighbour to neighbour.  A block holds the atoms that are
asked about and *shells* of atoms (periodic images are atoms of their own): those of shell s are s steps away.  Features
of layer t are needed up to shell n − 1 − t only, so that what is computed besides is the first layers of some shells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf, prod

import numpy as np
import torch
import vesin

from ase_deepdensity.network.contract import Coefficients
from ase_deepdensity.network.mapped import MappedFile
from ase_deepdensity.network.system import System, padded_neighbors


@dataclass(frozen=True, eq=False)
class Whole:
    """All atoms, of which blocks are made."""

    number_a: np.ndarray
    """(natoms,) atomic numbers."""
    position_av: np.ndarray
    """(natoms, 3) Å."""
    cell_cv: np.ndarray
    """(3, 3) lattice vectors, Å."""
    pbc_c: np.ndarray
    """(3,) do images count?"""
    charge: float
    """|e|, of all."""
    magmom_a: np.ndarray
    """(natoms,) μB."""
    response_mac: torch.Tensor | None = None
    """(m, natoms, features), see :class:`.System`."""

    def block(self, core_a: np.ndarray, cutoff: float, steps: int) -> System:
        """What a network with ``steps`` layers must see that is asked about the atoms ``core_a``, in this order.

        ``cutoff``: distance to which atoms are neighbours, Å.
        """
        atom_b, relpos_bc = self._near(core_a, steps * cutoff)
        position_bv = relpos_bc @ self.cell_cv
        pairs = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
        i_e, j_e = (x.astype(np.int64) for x in pairs.compute(position_bv, np.eye(3), False, 'ij'))
        shell_b = _shells(len(core_a), len(atom_b), i_e, j_e, steps)
        order_b = np.flatnonzero(shell_b <= steps)
        order_b = order_b[np.argsort(shell_b[order_b], kind='stable')]
        nrows = int((shell_b < steps).sum())
        place_b = np.full(len(atom_b), -1)
        place_b[order_b] = np.arange(len(order_b))
        i_e, j_e = (place_b[x_e] for x_e in (i_e, j_e))
        rows_e = np.flatnonzero((i_e >= 0) & (i_e < nrows))
        rows_e = rows_e[np.argsort(i_e[rows_e], kind='stable')]
        i_e, j_e = i_e[rows_e], j_e[rows_e]
        position_av = position_bv[order_b]
        vector_ev = torch.from_numpy(position_av[j_e] - position_av[i_e])
        neighbor_ak, vector_akv = padded_neighbors(nrows, i_e, j_e, vector_ev, cutoff)
        atom_a = atom_b[order_b]
        return System(
            number_a=torch.from_numpy(self.number_a[atom_a].astype(np.int64)),
            system_a=torch.zeros(len(atom_a), dtype=torch.int64),
            nsystems=1,
            position_av=torch.from_numpy(position_av),
            cell_tcv=torch.from_numpy(self.cell_cv)[None],
            neighbor_ak=neighbor_ak,
            vector_akv=vector_akv,
            charge_t=torch.tensor([self.charge * len(atom_a) / len(self.number_a)], dtype=torch.float64),
            magmom_a=torch.from_numpy(self.magmom_a[atom_a]),
            response_mac=None if self.response_mac is None else self.response_mac[:, atom_a[:nrows]],
            shell_a=torch.from_numpy(shell_b[order_b]),
        )

    def _near(self, core_a: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Atoms ``core_a``, and after them all atoms and images that may be within ``reach`` (Å) of one of them.

        Which they are, and where, in units of the lattice vectors.
        """
        relpos_ac = self._relpos_ac()
        first_c, last_c = relpos_ac[core_a].min(0), relpos_ac[core_a].max(0)
        margin_c = reach * np.linalg.norm(np.linalg.inv(self.cell_cv), axis=0) + 1e-9
        atom_b, shift_bc = np.arange(len(relpos_ac)), np.zeros((len(relpos_ac), 3))
        for c in range(3):
            low, high = first_c[c] - margin_c[c], last_c[c] + margin_c[c]
            shifts = range(-ceil(margin_c[c]) - 1, ceil(margin_c[c]) + 2) if self.pbc_c[c] else range(1)
            found = []
            for shift in shifts:
                x_b = relpos_ac[atom_b, c] + shift
                near_b = np.flatnonzero((x_b >= low) & (x_b <= high))
                shift_nc = shift_bc[near_b]
                shift_nc[:, c] = shift
                found.append((atom_b[near_b], shift_nc))
            atom_b, shift_bc = (np.concatenate(parts) for parts in zip(*found, strict=True))
        is_core_a = np.zeros(len(relpos_ac), bool)
        is_core_a[core_a] = True
        others_b = ~is_core_a[atom_b] | shift_bc.any(1)
        atom_b, shift_bc = atom_b[others_b], shift_bc[others_b]
        relpos_bc = np.concatenate([relpos_ac[core_a], relpos_ac[atom_b] + shift_bc])
        return np.concatenate([core_a, atom_b]), relpos_bc

    def _relpos_ac(self) -> np.ndarray:
        """(natoms, 3) in units of the lattice vectors, inside the cell where it is periodic."""
        relpos_ac = self.position_av @ np.linalg.inv(self.cell_cv)
        wrapped_ac: np.ndarray = np.where(self.pbc_c, relpos_ac % 1.0, relpos_ac)
        return wrapped_ac

    def cores(self, most: int, some_a: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Indices of the atoms, at most so many at a time, that lie together, ascending: each atom once.

        ``some_a``: of these (default: of all).
        """
        place_av = self._relpos_ac() * (1 / np.linalg.norm(np.linalg.inv(self.cell_cv), axis=0))
        yield from _halved(np.arange(len(place_av)) if some_a is None else some_a, place_av, most)


def _halved(some_a: np.ndarray, place_av: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cut across the longest direction into two, as equal as whole blocks allow, until they are small enough."""
    nblocks = ceil(len(some_a) / most)
    if nblocks <= 1:
        yield np.sort(some_a)
        return
    x_av = place_av[some_a]
    order_a = some_a[np.argsort(x_av[:, int(np.ptp(x_av, axis=0).argmax())], kind='stable')]
    middle = len(order_a) * (nblocks // 2) // nblocks
    yield from _halved(order_a[:middle], place_av, most)
    yield from _halved(order_a[middle:], place_av, most)


def _shells(ncore: int, natoms: int, i_e: np.ndarray, j_e: np.ndarray, steps: int) -> np.ndarray:
    """(natoms,) steps from one of the first ``ncore`` atoms; one too many for those that are farther away."""
    shell_b = np.full(natoms, steps + 1)
    shell_b[:ncore] = 0
    for step in range(1, steps + 1):
        heard_b = j_e[shell_b[i_e] == step - 1]
        shell_b[heard_b] = np.minimum(shell_b[heard_b], step)
    return shell_b


class Joined:
    """What is said of blocks, put together.

    Parameters
    ----------
    number_a
        (natoms,) atomic numbers of all atoms.
    components
        1: the total; 2: total and magnetisation, which is zero in blocks that have none.
    most_held
        Bytes of coefficients beyond which they are kept in a temporary file, if the disk has room and the work is on
        the CPU.
    """

    def __init__(self, number_a: np.ndarray, components: int, most_held: float = inf):
        self.number_a, self.components, self.most_held = number_a, components, most_held
        self._rank_a = np.zeros(len(number_a), np.int64)
        for Z in np.unique(number_a):
            of_Z_a = np.flatnonzero(number_a == Z)
            self._rank_a[of_Z_a] = np.arange(len(of_Z_a))
        self._all: Coefficients | None = None

    def add(self, core_a: np.ndarray, output: Coefficients) -> None:
        """Of the atoms ``core_a``, ascending."""
        if self._all is None:
            self._all = self._empty(output)
        to = torch.from_numpy(core_a)
        filled = slice(output.components)
        for all_esanm, c_esanm in zip(self._all.c_lesanm, output.c_lesanm, strict=True):
            all_esanm[:, filled, to] = c_esanm
        for Z, D_esaii in output.D_zesaii.items():
            rank_a = torch.from_numpy(self._rank_a[core_a[self.number_a[core_a] == Z]])
            if Z not in self._all.D_zesaii:
                number = int((self.number_a == Z).sum())
                shape = (len(D_esaii), self.components, number, *D_esaii.shape[3:])
                self._all.D_zesaii[Z] = D_esaii.new_zeros(shape)
            self._all.D_zesaii[Z][:, filled, rank_a] = D_esaii
        self._all.release()

    def output(self) -> Coefficients:
        """Of all atoms, in their order, without invariants: whoever wants them takes them from the blocks."""
        assert self._all is not None, 'there are no blocks'
        return self._all

    def _empty(self, output: Coefficients) -> Coefficients:
        natoms, first = len(self.number_a), output.c_lesanm[0]
        shapes = [(len(c_esanm), self.components, natoms, *c_esanm.shape[3:]) for c_esanm in output.c_lesanm]
        nbytes = sum(prod(shape) for shape in shapes) * first.element_size()
        nothing_ac, file = output.invariants_ac.new_zeros(natoms, 0), None
        if nbytes > self.most_held and first.device.type == 'cpu':
            with suppress(OSError):  # no room: in memory, as it is
                file = MappedFile.for_tensors(shapes, first.dtype)
        if file is None:
            return Coefficients({}, nothing_ac, [first.new_zeros(shape) for shape in shapes])
        return Coefficients({}, nothing_ac, [file.zeros(shape, first.dtype) for shape in shapes], file)
