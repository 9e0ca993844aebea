import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation import in_torch
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.testing.networks import DensityNetworkContract
from ase_deepdensity.testing.systems import VECTORS, box, system_of

BASIS = SplineBasis(2.5, 6, 2)
HYPERS = {'cutoff': 3.0, 'embedding': 6, 'axes': 3, 'width': 8, 'depth': 2, 'radial': 4, 'matrix_channels': 4}


def random_network(**hypers) -> DensityNetwork:
    network = build_network('invariant', HYPERS | hypers, (1, 8), BASIS, DensityNetworkContract.l_zj)
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
        contribution = network(system_of(network, box())).contribution
        rng = np.random.default_rng(8)
        a_p = torch.from_numpy(rng.integers(0, 9, 30))
        e_pv = torch.from_numpy(rng.normal(size=(30, 3)))
        one_by_one = torch.cat([contribution(a_p[p : p + 1], e_pv[p : p + 1]) for p in range(30)], dim=2)
        torch.testing.assert_close(contribution(a_p, e_pv), one_by_one)

    def test_on_a_line(self, network):
        """Mirrored chains have mirrored densities; the same code as in three dimensions."""
        chain = Atoms('OHHO', [[0, 0, z] for z in (0.0, 1.1, 2.9, 4.0)], cell=[20, 20, 5.1], pbc=True)
        mirrored = chain.copy()
        mirrored.positions[:, 2] *= -1
        vectors = VECTORS * [0, 0, 1]
        right, left = (self.run(network, chain, vectors=v).rho_esap for v in (vectors, -vectors))
        torch.testing.assert_close(self.run(network, mirrored, vectors=-vectors).rho_esap, right)
        assert float((left - right).detach().abs().max()) > 1e-6

    def test_chunks_and_blocks_of_points_change_nothing(self, network):
        atoms = box()
        grid = Grid(atoms.cell.array, (11, 12, 13))
        system, evaluate = system_of(network, atoms), DensityEvaluator(BASIS, torch.float64)
        with torch.no_grad():
            output = network(system)
            whole_R = evaluate(output, grid, system.position_av)[0, 0]
            assert whole_R.shape == grid.shape and float(whole_R.abs().max()) > 1e-6
            few_R = in_torch.add_points(grid, system.position_av, output.contribution, output.cutoff, max_pairs=300)[
                0, 0
            ]
            slabs = [evaluate(output, slab, system.position_av)[0, 0] for slab in grid.slabs(400)]
        np.testing.assert_allclose(few_R, whole_R, atol=1e-12)
        np.testing.assert_allclose(torch.cat(slabs), whole_R, atol=1e-12)

    def test_scales_come_from_the_data(self, network):
        """Inputs of the nets have unit size and the outputs start at the mean of the least-squares fit."""
        super().test_scales_come_from_the_data(network)
        systems = [system_of(network, box(seed=seed)) for seed in range(3)]
        with torch.no_grad():
            invariants_ac = torch.cat([network(system).invariants_ac[system.atoms_of(8)] for system in systems])
        D_ax = invariants_ac[:, : network.hypers.descriptor]
        assert float(D_ax.mean(0).abs().max()) < 0.3 and 0.1 < float(D_ax.std()) < 1.1
        assert float(network.scale_sn.min()) > 0 and float(network.mean_sn.abs().max()) > 0
