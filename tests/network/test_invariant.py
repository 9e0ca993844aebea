import numpy as np
import torch
from ase import Atoms
from ase_deepdensity.network.graph import build_graph

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation import in_torch
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.registry import build_network
from tests.network.contract import L_SJ, VECTORS, DensityNetworkContract, box

BASIS = SplineBasis(2.5, 6, 2)
HYPERS = {'cutoff': 3.0, 'embedding': 6, 'axes': 3, 'width': 8, 'depth': 2, 'radial': 4, 'matrix_channels': 4}


def random_network(**hypers) -> DensityNetwork:
    network = build_network('invariant', HYPERS | hypers, (1, 8), BASIS, L_SJ)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


class TestWithUnitVectorsOnly(DensityNetworkContract):
    """As in Deep Potential."""

    basis = BASIS

    def make(self) -> DensityNetwork:
        return random_network(lmax=1)


class TestInvariantNetwork(DensityNetworkContract):
    basis = BASIS

    def make(self) -> DensityNetwork:
        return random_network()

    def test_points_in_any_order(self, network):
        atoms = box()
        graph = build_graph(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, network.species, network.cutoff
        )
        contribution, oxygen = network(graph).contribution, graph.slices[1]
        rng = np.random.default_rng(8)
        a_p = torch.from_numpy(rng.integers(oxygen.start, oxygen.stop, 30))
        e_pv = torch.from_numpy(rng.normal(size=(30, 3)))
        one_by_one = torch.cat([contribution(1, a_p[p : p + 1], e_pv[p : p + 1]) for p in range(30)])
        torch.testing.assert_close(contribution(1, a_p, e_pv), one_by_one)

    def test_on_a_line(self, network):
        """Mirrored chains have mirrored densities; the same code as in three dimensions."""
        chain = Atoms('OHHO', [[0, 0, z] for z in (0.0, 1.1, 2.9, 4.0)], cell=[20, 20, 5.1], pbc=True)
        mirrored = chain.copy()
        mirrored.positions[:, 2] *= -1
        vectors = VECTORS * [0, 0, 1]
        right, left = (self.run(network, chain, vectors=v).rho_ap for v in (vectors, -vectors))
        torch.testing.assert_close(self.run(network, mirrored, vectors=-vectors).rho_ap, right)
        assert float((left - right).detach().abs().max()) > 1e-6

    def test_chunks_and_blocks_of_points_change_nothing(self, network):
        atoms = box()
        grid = Grid(atoms.cell.array, (11, 12, 13))
        graph = build_graph(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, network.species, network.cutoff
        )
        positions_av = atoms.positions[graph.order_a]
        with torch.no_grad():
            output = network(graph)
            whole_R = DensityEvaluator(BASIS, torch.float64)(output, grid, positions_av)
            assert whole_R.shape == grid.shape and float(whole_R.abs().max()) > 1e-6
            few_R = in_torch.add_points(
                grid, torch.from_numpy(positions_av), output.contribution, output.slices, output.cutoff, max_pairs=300
            )
            slabs = [DensityEvaluator(BASIS, torch.float64)(output, slab, positions_av) for slab in grid.slabs(400)]
        np.testing.assert_allclose(few_R, whole_R, atol=1e-12)
        np.testing.assert_allclose(torch.cat(slabs), whole_R, atol=1e-12)


def test_scales_come_from_the_data():
    """Inputs of the nets have unit size and the outputs start at the mean of the least-squares fit."""
    network = build_network('invariant', HYPERS, (1, 8), BASIS, L_SJ)
    graphs = []
    for seed in range(3):
        atoms = box(seed=seed)
        graph = build_graph(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, network.species, network.cutoff
        )
        graphs.append(graph.to(dtype=torch.float32))
    sizes: list[int] = []

    def fit(expand, number_k):
        sizes[:] = number_k
        return [[torch.full((9, k, 2 * l + 1), 0.1 * (l + 1)) for l, k in enumerate(number_k)] for _ in graphs]

    D_tsaii = [[torch.randn(n, ni, ni) for n, ni in zip(graph.counts, (5, 13), strict=True)] for graph in graphs]
    network.fit_scale(graphs, fit, D_tsaii)
    assert len(sizes) == BASIS.lmax + 1
    with torch.no_grad():
        invariants_ac = torch.cat([network(graph).invariants_ac[graph.slices[1]] for graph in graphs])
    D_ax = invariants_ac[:, : network.hypers.descriptor]
    assert float(D_ax.mean(0).abs().max()) < 0.3 and 0.1 < float(D_ax.std()) < 1.1
    assert float(network.scale_sn.min()) > 0 and float(network.mean_sn.abs().max()) > 0
