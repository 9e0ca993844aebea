"""Atoms and their neighbours as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import vesin


@dataclass
class Graph:
    """Atoms sorted by species, each with a padded list of neighbours.

    Parameters
    ----------
    counts
        Number of atoms of each species; atoms of one species stand together.
    order_a
        Index of each sorted atom in the caller's order.
    neighbor_ak
        (natoms, K) index of each neighbour among the sorted atoms; padding points at atom 0.
    vector_akv
        (natoms, K, 3) from the atom to the neighbour, Å; padding is as long as the cutoff, where all weights vanish.
    species_ak
        (natoms, K) species of the neighbour.
    """

    counts: list[int]
    order_a: torch.Tensor
    neighbor_ak: torch.Tensor
    vector_akv: torch.Tensor
    species_ak: torch.Tensor

    @property
    def slices(self) -> list[slice]:
        """Where the atoms of each species are."""
        stops = np.cumsum(self.counts)
        return [slice(int(stop) - n, int(stop)) for stop, n in zip(stops, self.counts, strict=True)]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """The same graph elsewhere; ``dtype`` is that of the vectors."""
        return Graph(
            self.counts,
            self.order_a.to(device),
            self.neighbor_ak.to(device),
            self.vector_akv.to(device=device, dtype=dtype),
            self.species_ak.to(device),
        )


def build_graph(
    numbers_a: np.ndarray,
    positions_av: np.ndarray | torch.Tensor,
    cell_cv: np.ndarray,
    pbc_c: np.ndarray,
    species: Sequence[int],
    cutoff: float,
) -> Graph:
    """Neighbours within ``cutoff`` (Å), all periodic images counted, the atom's own images included.

    ``positions_av`` may be a tensor that requires a gradient; then the vectors do as well.

    Raises
    ------
    ValueError
        Atomic numbers that are not among ``species``.
    """
    unknown = sorted(set(numbers_a.tolist()) - set(species))
    if unknown:
        raise ValueError(f'atomic numbers {unknown} are not among {list(species)}')
    species_a = np.searchsorted(np.array(species), numbers_a)
    order_a = np.argsort(species_a, kind='stable')
    species_a = species_a[order_a]
    positions_av = torch.as_tensor(positions_av, dtype=torch.float64)[torch.from_numpy(order_a)]

    points_av = positions_av.detach().cpu().numpy()
    i_e, j_e, shift_ec = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True).compute(
        points_av, cell_cv, pbc_c, 'ijS'
    )
    natoms = len(order_a)
    count_a = np.bincount(i_e.astype(int), minlength=natoms)
    slot_e = np.arange(len(i_e)) - np.repeat(np.cumsum(count_a) - count_a, count_a)
    width = max(int(count_a.max(initial=0)), 1)
    i_e, j_e = torch.from_numpy(i_e.astype(np.int64)), torch.from_numpy(j_e.astype(np.int64))
    shift_ev = torch.from_numpy(shift_ec.astype(float) @ np.asarray(cell_cv, dtype=float))

    place_e = (i_e, torch.from_numpy(slot_e))
    neighbor_ak = torch.zeros((natoms, width), dtype=torch.int64)
    neighbor_ak[place_e] = j_e
    padding_v = torch.tensor([0.0, 0.0, cutoff], dtype=torch.float64)
    vector_akv = padding_v.expand(natoms, width, 3).index_put(place_e, positions_av[j_e] + shift_ev - positions_av[i_e])
    return Graph(
        counts=np.bincount(species_a, minlength=len(species)).tolist(),
        order_a=torch.from_numpy(order_a),
        neighbor_ak=neighbor_ak,
        vector_akv=vector_akv,
        species_ak=torch.from_numpy(species_a)[neighbor_ak],
    )
