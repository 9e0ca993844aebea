import numpy as np
import pytest
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.network.system import build_system
from ase_deepdensity.testing.networks import DensityNetworkContract
from ase_deepdensity.testing.systems import box, meeting

BASIS = SplineBasis(3.0, 3, 4)
L_ZJ = DensityNetworkContract.l_zj
HYPERS = {'cutoff': 3.0, 'lmax': 4, 'radial': 3, 'channels': 6, 'message_channels': 4, 'pseudo_channels': 4}


class TestEquivariantNetwork(DensityNetworkContract):
    basis = BASIS

    hypers = HYPERS

    def make(self) -> DensityNetwork:
        network = build_network('equivariant', self.hypers, (1, 8), BASIS, L_ZJ)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        return network

    def test_chunks_of_neighbours_change_nothing(self, network, monkeypatch):
        with torch.no_grad():
            whole = self.run(network, box())
            monkeypatch.setattr('ase_deepdensity.network.messages.CHUNK', 2)
            monkeypatch.setattr('ase_deepdensity.network.spherical.COLUMNS', 5)
            monkeypatch.setattr('ase_deepdensity.network.by_species.CHUNK', 2)
            self.assert_same(self.run(network, box()), whole)


class TestThreeLayers(TestEquivariantNetwork):
    hypers = HYPERS | {'layers': 3}


class TestNetworkThatSeesKPoints(TestEquivariantNetwork):
    hypers = HYPERS | {'response_widths': [0.2, 0.6]}

    def make(self) -> DensityNetwork:
        network = super().make()
        network.input_scale_lx[:, 6:] = 100.0  # of what is told about k-points
        return network

    def test_kpoints_matter(self, network):
        atoms, at_gamma = box(), box()
        at_gamma.info['kpts'] = np.zeros((1, 3))
        said, other = self.run(network, atoms), self.run(network, at_gamma)
        assert float((said.rho_esap - other.rho_esap).detach().abs().max()) > 1e-3 * float(
            said.rho_esap.detach().abs().max()
        )

    def test_smooth_where_a_neighbour_enters(self, network):
        """The waves change with every step, but evenly."""
        h = 1e-3
        rho_tap = [self.run(network, meeting(network.cutoff + step)).rho_esap.detach() for step in (-h, 0, h)]
        before, after = rho_tap[1] - rho_tap[0], rho_tap[2] - rho_tap[1]
        assert float((after - before).abs().max()) < 0.02 * float(before.abs().max())

    def test_single_atom_and_missing_species(self, network):
        """A lone atom answers to the atoms of other cells and is no sphere."""
        said = self.run(network, box()[[0]])
        assert len(said.D_aesii) == 1 and torch.isfinite(said.rho_esap).all()

    def test_a_system_without_kpoints_is_refused(self, network):
        atoms = box()
        system = build_system(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, 3.0)
        with pytest.raises(ValueError, match='told about k-points, but the system holds nothing of them'):
            network(system)


def test_empty_network_waits_for_a_state_dict():
    full = build_network('equivariant', HYPERS, (1, 8), BASIS, L_ZJ)
    empty = build_network('equivariant', HYPERS, (1, 8), BASIS, L_ZJ, empty=True)
    assert not empty.matrices[1].T0_bmii.any()
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.matrices[1].T0_bmii, full.matrices[1].T0_bmii)


@pytest.mark.parametrize(
    ('name', 'hypers', 'message'),
    [
        ('transformer', {}, "no network 'transformer'; there are equivariant, invariant, universal"),
        ('equivariant', {'depth': 3}, 'no depth'),
        ('invariant', {'layers': 3}, 'no layers'),
    ],
)
def test_unknown_networks(name, hypers, message):
    with pytest.raises(ValueError, match=message):
        build_network(name, hypers, (1, 8), BASIS, L_ZJ)


def test_angular_momenta_beyond_the_features_are_refused():
    with pytest.raises(ValueError, match='lmax 2 cannot write a density with lmax 4'):
        build_network('equivariant', HYPERS | {'lmax': 2}, (1, 8), BASIS, L_ZJ)
