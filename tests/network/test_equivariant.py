import pytest
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.registry import build_network
from tests.network.contract import L_SJ, DensityNetworkContract

BASIS = SplineBasis(3.0, 3, 4)
HYPERS = {'cutoff': 3.0, 'lmax': 4, 'radial': 3, 'channels': 6, 'message_channels': 4, 'pseudo_channels': 4}


class TestEquivariantNetwork(DensityNetworkContract):
    def make(self) -> DensityNetwork:
        network = build_network('equivariant', HYPERS, (1, 8), BASIS, L_SJ)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        return network

    def test_chunks_of_neighbours_change_nothing(self, network, monkeypatch):
        from tests.network.contract import box

        with torch.no_grad():
            whole = self.run(network, box())
            monkeypatch.setattr('ase_deepdensity.network.equivariant.CHUNK', 2)
            monkeypatch.setattr('ase_deepdensity.network.spherical.COLUMNS', 5)
            self.assert_same(self.run(network, box()), whole)


def test_empty_network_waits_for_a_state_dict():
    full = build_network('equivariant', HYPERS, (1, 8), BASIS, L_SJ)
    empty = build_network('equivariant', HYPERS, (1, 8), BASIS, L_SJ, empty=True)
    assert not empty.matrices[1].T0_bmii.any()
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.matrices[1].T0_bmii, full.matrices[1].T0_bmii)


@pytest.mark.parametrize(
    ('name', 'hypers', 'message'),
    [('transformer', {}, "no network 'transformer'; there are equivariant"), ('equivariant', {'width': 3}, 'no width')],
)
def test_unknown_networks(name, hypers, message):
    with pytest.raises(ValueError, match=message):
        build_network(name, hypers, (1, 8), BASIS, L_SJ)


def test_angular_momenta_beyond_the_features_are_refused():
    with pytest.raises(ValueError, match='lmax 2 cannot write a density with lmax 4'):
        build_network('equivariant', HYPERS | {'lmax': 2}, (1, 8), BASIS, L_SJ)
