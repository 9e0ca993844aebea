"""One or many sets of atoms and their neighbours as tensors: what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import vesin

from ase_deepdensity.network.electron_gas import Waves


@dataclass(frozen=True, eq=False)
class System:
    """Atoms of one or many systems, one system after the other, each in the caller's order, with their neighbours.

    A system is what fits into one cell.  All that belongs to an atom is in the order of ``number_a``, all that belongs
    to a system in the order in which they came.
    """

    number_a: torch.Tensor
    """(natoms,) atomic numbers, int64."""
    system_a: torch.Tensor
    """(natoms,) which system an atom belongs to, int64, ascending."""
    nsystems: int
    """Number of systems; one may be without atoms."""
    position_av: torch.Tensor
    """(natoms, 3) Å, float64; may require a gradient."""
    cell_tcv: torch.Tensor
    """(nsystems, 3, 3) lattice vectors, Å, float64."""
    neighbor_ak: torch.Tensor
    """(natoms, K) index of each neighbour among all atoms, int64; padding points at the atom itself."""
    vector_akv: torch.Tensor
    """(natoms, K, 3) from the atom to the neighbour, Å; padding is as long as the cutoff, where all weights vanish."""
    charge_t: torch.Tensor
    """(nsystems,) total charge, |e|."""
    magmom_a: torch.Tensor
    """(natoms,) magnetic moments that are assumed at the atoms, μB; all zero: spin-paired."""
    response_mac: torch.Tensor | None = None
    """(m, natoms, features) what the k-points do, see :mod:`.electron_gas`; None where no network asks for it."""
    shell_a: torch.Tensor | None = None
    """(natoms,) of a block of a larger system how many steps from neighbour to neighbour an atom is away from those
    that are asked about, int64, ascending; None: all are asked about.  Atoms of the last shell have no rows in
    ``neighbor_ak``, ``vector_akv`` and ``response_mac``: they are neighbours only.  See :mod:`.blocks`."""

    @property
    def natoms(self) -> int:
        """Of all systems together."""
        return len(self.number_a)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(self.number_a.unique().tolist())

    def atoms_of(self, number: int) -> torch.Tensor:
        """Indices of the atoms of an element, int64, ascending."""
        return self._atoms_z.get(number, self.number_a[:0])

    @cached_property
    def _atoms_z(self) -> dict[int, torch.Tensor]:
        return {Z: torch.nonzero(self.number_a == Z).flatten() for Z in self.numbers}

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """For each system where its atoms are."""
        stop_t = self.system_a.bincount(minlength=self.nsystems).cumsum(0).tolist()
        return tuple(slice(start, stop) for start, stop in zip([0, *stop_t], stop_t, strict=False))

    def rows_of(self, number: int, t: int) -> slice:
        """Which of :meth:`atoms_of` an element are those of system t."""
        if number not in self._bounds_z:
            start_t = torch.tensor([*(some.start for some in self.slices), self.natoms], device=self.number_a.device)
            self._bounds_z[number] = torch.searchsorted(self.atoms_of(number), start_t).tolist()
        return slice(*self._bounds_z[number][t : t + 2])

    @cached_property
    def _bounds_z(self) -> dict[int, list[int]]:
        return {}

    @cached_property
    def is_spin_polarized(self) -> bool:
        """Has any atom a magnetic moment?"""
        return bool(self.magmom_a.any())

    def within(self, steps: int) -> int:
        """How many atoms are at most so many steps away from those that are asked about: the first ones."""
        if self.shell_a is None:
            return self.natoms
        return int(torch.searchsorted(self.shell_a, steps, right=True))

    def asked_about(self) -> System:
        """The same with the atoms alone that are asked about; their neighbours may be missing among them."""
        if self.shell_a is None:
            return self
        few = slice(self.within(0))
        names = 'number_a', 'system_a', 'position_av', 'neighbor_ak', 'vector_akv', 'magmom_a'
        parts: dict[str, Any] = {name: getattr(self, name)[few] for name in names}
        return replace(self, shell_a=None, response_mac=None, **parts)

    def of_system(self, t: int) -> System:
        """System t alone, which is no block of a larger one."""
        if self.nsystems == 1:
            return self
        some, parts = self.slices[t], dict[str, Any]()
        for name in 'number_a', 'position_av', 'vector_akv', 'magmom_a':
            parts[name] = getattr(self, name)[some]
        for name in 'cell_tcv', 'charge_t':
            parts[name] = getattr(self, name)[t : t + 1]
        response_mac = None if self.response_mac is None else self.response_mac[:, some]
        return replace(
            self,
            nsystems=1,
            system_a=torch.zeros_like(parts['number_a']),
            neighbor_ak=self.neighbor_ak[some] - some.start,
            response_mac=response_mac,
            **parts,
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> System:
        """The same elsewhere; ``dtype`` is that of all but positions and cells, which stay float64."""
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if isinstance(value, torch.Tensor):
                real = value.is_floating_point() and name not in ('position_av', 'cell_tcv')
                moved[name] = value.to(device=device, dtype=dtype if real else None)
        return System(**moved)

    @classmethod
    def join(cls, systems: Sequence[System], cutoff: float) -> System:
        """Several as one, their atoms one after the other; ``cutoff`` (Å) is the one they were made with.

        Raises
        ------
        ValueError
            No systems, or only some that tell what the k-points do.
        """
        if not systems:
            raise ValueError('there are no systems to join')
        if len(systems) == 1:
            return systems[0]
        natoms_i, nsystems_i = [s.natoms for s in systems], [s.nsystems for s in systems]
        first_a, first_t = (np.cumsum([0, *count_i]).tolist() for count_i in (natoms_i, nsystems_i))
        width = max(system.neighbor_ak.shape[1] for system in systems)
        padded = [system.padded(width, cutoff) for system in systems]

        def joined(name: str) -> torch.Tensor:
            return torch.cat([getattr(system, name) for system in padded])

        return cls(
            number_a=joined('number_a'),
            system_a=torch.cat([system.system_a + t for system, t in zip(padded, first_t, strict=False)]),
            nsystems=first_t[-1],
            position_av=joined('position_av'),
            cell_tcv=joined('cell_tcv'),
            neighbor_ak=torch.cat([system.neighbor_ak + a for system, a in zip(padded, first_a, strict=False)]),
            vector_akv=joined('vector_akv'),
            charge_t=joined('charge_t'),
            magmom_a=joined('magmom_a'),
            response_mac=_joined_response(systems),
        )

    def padded(self, width: int, cutoff: float) -> System:
        """The same with ``width`` places for neighbours, at least as many as before."""
        missing = width - self.neighbor_ak.shape[1]
        if missing == 0:
            return self
        own_ak = torch.arange(self.natoms, device=self.neighbor_ak.device)[:, None].expand(-1, missing)
        padding_akv = self.vector_akv.new_tensor([0.0, 0.0, cutoff]).expand(self.natoms, missing, 3)
        return replace(
            self,
            neighbor_ak=torch.cat([self.neighbor_ak, own_ak], dim=1),
            vector_akv=torch.cat([self.vector_akv, padding_akv], dim=1),
        )


def _joined_response(systems: Sequence[System]) -> torch.Tensor | None:
    response_imac = [system.response_mac for system in systems if system.response_mac is not None]
    if len(response_imac) not in (0, len(systems)):
        raise ValueError(f'{len(response_imac)} of {len(systems)} systems tell what the k-points do: all must, or none')
    return torch.cat(response_imac, dim=1) if response_imac else None


def build_system(
    number_a: np.ndarray,
    position_av: np.ndarray | torch.Tensor,
    cell_cv: np.ndarray,
    pbc_c: np.ndarray,
    cutoff: float,
    *,
    charge: float = 0.0,
    magmom_a: np.ndarray | None = None,
    waves: Waves | None = None,
) -> System:
    """One system with all neighbours within ``cutoff`` (Å), periodic images and those of the atom itself included.

    Parameters
    ----------
    position_av
        (natoms, 3) Å; a tensor may require a gradient, then the vectors do as well.
    charge
        Total charge, |e|.
    magmom_a
        (natoms,) magnetic moments, μB; default: none.
    waves
        Of this cell and its k-points, for a network that is told about them.
    """
    position_av = torch.as_tensor(position_av, dtype=torch.float64)
    neighbor_ak, vector_akv = _neighbors(position_av, np.asarray(cell_cv, dtype=float), pbc_c, cutoff)
    natoms = len(position_av)
    return System(
        number_a=torch.as_tensor(np.asarray(number_a), dtype=torch.int64),
        system_a=torch.zeros(natoms, dtype=torch.int64),
        nsystems=1,
        position_av=position_av,
        cell_tcv=torch.as_tensor(np.array(cell_cv, dtype=float))[None],
        neighbor_ak=neighbor_ak,
        vector_akv=vector_akv,
        charge_t=torch.tensor([charge], dtype=torch.float64),
        magmom_a=torch.as_tensor(np.zeros(natoms) if magmom_a is None else np.array(magmom_a, dtype=float)),
        response_mac=None if waves is None else waves.features(position_av),
    )


def _neighbors(
    position_av: torch.Tensor, cell_cv: np.ndarray, pbc_c: np.ndarray, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded lists: indices (natoms, K) and vectors (natoms, K, 3)."""
    point_av = position_av.detach().cpu().numpy()
    a_e, b_e, shift_ec = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True).compute(
        point_av, cell_cv, pbc_c, 'ijS'
    )
    a_e, b_e = a_e.astype(np.int64), b_e.astype(np.int64)
    vector_ev = position_av[b_e] + torch.from_numpy(shift_ec.astype(float) @ cell_cv) - position_av[a_e]
    return padded_neighbors(len(point_av), a_e, b_e, vector_ev, cutoff)


def padded_neighbors(
    natoms: int, a_e: np.ndarray, b_e: np.ndarray, vector_ev: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded lists from pairs, sorted by the first atom: indices (natoms, K) and vectors (natoms, K, 3)."""
    count_a = np.bincount(a_e, minlength=natoms)
    k_e = np.arange(len(a_e)) - np.repeat(np.cumsum(count_a) - count_a, count_a)
    width = max(int(count_a.max(initial=0)), 1)

    neighbor_ak = np.repeat(np.arange(natoms)[:, np.newaxis], width, axis=1)
    neighbor_ak[a_e, k_e] = b_e
    place_e = torch.from_numpy(a_e), torch.from_numpy(k_e)
    padding_v = torch.tensor([0.0, 0.0, cutoff], dtype=torch.float64)
    vector_akv = padding_v.expand(natoms, width, 3).index_put(place_e, vector_ev)
    return torch.from_numpy(neighbor_ak), vector_akv
