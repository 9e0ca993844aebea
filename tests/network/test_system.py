import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase_deepdensity.network.graph import build_graph

from tests.network.contract import box


def edges_of(graph, cutoff):
    """Sorted rows (atom, neighbour, vector) in the caller's order, padding left out."""
    order_a = graph.order_a.numpy()
    length_ak = graph.vector_akv.norm(dim=2).numpy()
    rows = [
        (order_a[a], order_a[graph.neighbor_ak[a, k]], *np.round(graph.vector_akv[a, k].numpy(), 6) + 0.0)
        for a, k in np.argwhere(length_ak < cutoff - 1e-9)
    ]
    return sorted(rows)


CASES = {
    'small cell': (box(), 5.0),
    'smaller than the cutoff': (Atoms('OH', [[0, 0, 0], [0, 0, 1]], cell=[2.1, 2.2, 2.5], pbc=True), 5.0),
    'mixed pbc': (Atoms('OHH', box().positions[:3], cell=box().cell, pbc=(1, 0, 1)), 4.0),
    'molecule': (Atoms('HOH', [[0, 0.7, 0.6], [0, 0, 0], [0, -0.7, 0.6]], cell=[5] * 3), 3.0),
    'lone atom': (Atoms('O', [[1, 1, 1]], cell=[9] * 3), 3.0),
}


@pytest.mark.parametrize('case', CASES)
def test_neighbours_are_those_of_ase(case):
    atoms, cutoff = CASES[case]
    graph = build_graph(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, (1, 8), cutoff)
    i, j, D = neighbor_list('ijD', atoms, cutoff)
    expected = sorted((a, b, *np.round(d, 6) + 0.0) for a, b, d in zip(i, j, D, strict=True))
    np.testing.assert_allclose(edges_of(graph, cutoff), expected, atol=2e-6)
    assert graph.counts == [int((atoms.numbers == 1).sum()), int((atoms.numbers == 8).sum())]
    assert (np.diff(atoms.numbers[graph.order_a.numpy()]) >= 0).all()
    real_ak = graph.vector_akv.norm(dim=2).numpy() < cutoff - 1e-9
    neighbours = atoms.numbers[graph.order_a.numpy()[graph.neighbor_ak.numpy()]]
    assert (np.where(neighbours == 8, 1, 0) == graph.species_ak.numpy())[real_ak].all()


def test_unknown_species():
    with pytest.raises(ValueError, match=r'\[6\] are not among \[1, 8\]'):
        build_graph(np.array([6, 1]), np.zeros((2, 3)), np.eye(3), np.ones(3, bool), (1, 8), 3.0)
