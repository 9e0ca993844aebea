"""Atoms and their neighbours as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import vesin

from ase_deepdensity.network.electron_gas import Waves


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
    response_mac
        (m, natoms, features) what the k-points do, see :mod:`.electron_gas`; None where no network asks for it.
    """

    counts: list[int]
    order_a: torch.Tensor
    neighbor_ak: torch.Tensor
    vector_akv: torch.Tensor
    species_ak: torch.Tensor
    response_mac: torch.Tensor | None = None

    @property
    def slices(self) -> list[slice]:
        """Where the atoms of each species are."""
        return by_species(self.counts)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """The same graph elsewhere; ``dtype`` is that of vectors and features."""
        return Graph(
            self.counts,
            self.order_a.to(device),
            self.neighbor_ak.to(device),
            self.vector_akv.to(device=device, dtype=dtype),
            self.species_ak.to(device),
            None if self.response_mac is None else self.response_mac.to(device=device, dtype=dtype),
        )


def by_species(counts: Sequence[int]) -> list[slice]:
    """Where so many atoms of each species are that stand one species after the other."""
    return [slice(int(stop) - n, int(stop)) for stop, n in zip(np.cumsum(counts), counts, strict=True)]


def join(graphs: Sequence[Graph], cutoff: float) -> tuple[Graph, list[list[slice]]]:
    """Graphs of several sets of atoms as one, and for each set where its atoms of each species are in it.

    ``order_a`` of the joint graph counts on from one set to the next.
    """
    if len(graphs) == 1:
        return graphs[0], [graphs[0].slices]
    nspecies, number = len(graphs[0].counts), len(graphs)
    pieces = by_species([graph.counts[s] for s in range(nspecies) for graph in graphs])
    slices_ts = [pieces[t::number] for t in range(number)]
    first_t = by_species([len(graph.order_a) for graph in graphs])
    width = max(graph.neighbor_ak.shape[1] for graph in graphs)

    def joined(x_tax: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(
            [x_ax[graph.slices[s]] for s in range(nspecies) for x_ax, graph in zip(x_tax, graphs, strict=True)]
        )

    def padded(x_tak: list[torch.Tensor]) -> torch.Tensor:
        return joined([torch.nn.functional.pad(x_ak, (0, width - x_ak.shape[1])) for x_ak in x_tak])

    padding_v = graphs[0].vector_akv.new_tensor([0.0, 0.0, cutoff])
    place_ta = [torch.cat([torch.arange(a.start, a.stop) for a in slices]).to(padding_v.device) for slices in slices_ts]
    return Graph(
        counts=[sum(graph.counts[s] for graph in graphs) for s in range(nspecies)],
        order_a=joined([graph.order_a + first.start for graph, first in zip(graphs, first_t, strict=True)]),
        neighbor_ak=padded([place_a[graph.neighbor_ak] for place_a, graph in zip(place_ta, graphs, strict=True)]),
        vector_akv=joined(
            [
                torch.cat(
                    [graph.vector_akv, padding_v.expand(len(graph.order_a), width - graph.vector_akv.shape[1], 3)], 1
                )
                for graph in graphs
            ]
        ),
        species_ak=padded([graph.species_ak for graph in graphs]),
        response_mac=_joined_response(graphs, joined),
    ), slices_ts


def _joined_response(
    graphs: Sequence[Graph], joined: Callable[[list[torch.Tensor]], torch.Tensor]
) -> torch.Tensor | None:
    response_tamc = [graph.response_mac.transpose(0, 1) for graph in graphs if graph.response_mac is not None]
    return joined(response_tamc).transpose(0, 1) if response_tamc else None


def build_graph(
    numbers_a: np.ndarray,
    positions_av: np.ndarray | torch.Tensor,
    cell_cv: np.ndarray,
    pbc_c: np.ndarray,
    species: Sequence[int],
    cutoff: float,
    waves: Waves | None = None,
) -> Graph:
    """Neighbours within ``cutoff`` (Å), all periodic images counted, the atom's own images included.

    ``positions_av`` may be a tensor that requires a gradient; then the vectors do as well.  ``waves``: of this cell and
    its k-points, for a network that is told about them.

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
        response_mac=None if waves is None else waves.features(positions_av),
    )
