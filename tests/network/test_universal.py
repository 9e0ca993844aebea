import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.elements import ElementVectors
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.testing.networks import DensityNetworkContract
from ase_deepdensity.testing.systems import box, element, system_of

BASIS = SplineBasis(3.0, 3, 2)
L_ZJ = DensityNetworkContract.l_zj
HYPERS = {
    'cutoff': 3.0, 'lmax': 3, 'radial': 3, 'element_size': 6, 'neighbor_size': 3, 'channels': 6, 'message_channels': 4,
    'pseudo_channels': 4,
}  # fmt: skip


def random_network(**hypers) -> DensityNetwork:
    network = build_network('universal', HYPERS | hypers, (1, 8), BASIS, L_ZJ)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


class TestUniversalNetwork(DensityNetworkContract):
    basis = BASIS

    def make(self) -> DensityNetwork:
        return random_network()

    def test_scales_come_from_the_data(self, network):
        """A fitted network starts near the means."""
        super().test_scales_come_from_the_data(network)
        said = self.run(network, box(seed=1))
        assert all(float((D - torch.eye(D.shape[-1])).detach().abs().max()) < 0.1 for D in said.D_aesii)
        assert float(said.rho_esap.detach().abs().max()) < 0.2

    def test_new_elements(self, network):
        """The others are as before; a new one is what its descriptors say, unlike any other."""
        atoms = box()
        before = self.run(network, atoms)
        grown = network.with_elements({6: element(6, L_ZJ[1]), 9: element(9, (0, 0, 1, 1, 2, 2))})
        assert grown.species == (1, 6, 8, 9)
        self.assert_same(self.run(grown, atoms), before, 0.0)
        invariants = {}
        for symbol in 'OCF':
            other = atoms.copy()
            other.symbols[0] = symbol
            said = self.run(grown, other)
            assert all(x.isfinite().all() for x in said.tensors())
            invariants[symbol] = said.invariants_ac[1]
        assert float((invariants['C'] - invariants['O']).detach().norm()) > 1e-6
        assert float((invariants['C'] - invariants['F']).detach().norm()) > 1e-6
        carbon, oxygen = (grown.heads[0].of(Z)[0] for Z in (6, 8))
        assert torch.equal(carbon.scale0_k, oxygen.scale0_k), 'of the element with the same projectors'
        assert torch.equal(carbon.mean_ii, torch.eye(13, dtype=torch.float64)), 'of the free atom'
        with pytest.raises(ValueError, match=r'knows the elements \[6\] already'):
            grown.with_elements({6: element(6, L_ZJ[1])})

    def test_only_elements_that_occur_are_touched(self, network):
        system = system_of(network, Atoms('H2', [[0, 0, 0], [0, 0, 0.8]], cell=[5] * 3))
        output = network(system)
        sum(
            (D_esaii**2).sum() + sum((c**2).sum() for c in output.c_lesanm) for D_esaii in output.D_zesaii.values()
        ).backward()
        touched = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert any(name.startswith('heads.0.elements.1.') for name in touched)
        assert not any(name.startswith('heads.0.elements.8.') for name in touched)


class TestWithSpinChargeAndMembers(TestUniversalNetwork):
    def make(self) -> DensityNetwork:
        return random_network(magnetic=True, charged=True, members=3, alone=True)


def test_a_free_atom_is_unlike_the_mean_only_with_features_of_its_own():
    network = random_network(alone=True).double()
    network.set_elements({Z: element(Z, l_j) for Z, l_j in zip((1, 8), L_ZJ, strict=True)})
    network.layers[0].alone.weight.data.normal_()
    system = system_of(network, Atoms('O', cell=[12] * 3))
    D_ii = network(system).D_zesaii[8][0, 0, 0]
    assert float((D_ii - network.mean_zii[8]).detach().abs().max()) > 0.03
    for layer in network.layers:
        layer.alone.weight.data.zero_()
    without = random_network().double()
    without.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(network(system).D_zesaii[8], without(system).D_zesaii[8])


def test_parameters_of_sixty_elements():
    """A quarter of the nucleus: sizes as they are by default, projectors as those of GPAW's datasets."""
    l_zj = [(0, 0, 1)] * 4 + [(0, 0, 1, 1, 2)] * 26 + [(0, 0, 1, 1, 2, 2)] * 30
    network = build_network('universal', {'magnetic': True}, range(1, 61), SplineBasis(3.0, 23, 4), l_zj)
    assert sum(parameter.numel() for parameter in network.parameters()) < 4e6


def test_elements_must_be_described():
    network = random_network()
    with pytest.raises(ValueError, match='has not been told what its elements are like'):
        network(system_of(network, box()).to(dtype=torch.float32))


def test_unknown_magnetisations_are_small():
    """Snapshots without spin teach nothing of the magnetisation."""
    torch.manual_seed(0)
    network = random_network(magnetic=True)
    network.set_elements({Z: element(Z, l_j) for Z, l_j in zip((1, 8), L_ZJ, strict=True)})
    systems = [system_of(network, box(seed=seed)).to(dtype=torch.float32) for seed in range(2)]

    def fit(expand, sizes):
        return [[[torch.randn(9, k, 2 * l + 1) for l, k in enumerate(sizes)]] for _ in systems]

    network.fit_scale(systems, fit, [{1: torch.ones(1, 6, 5, 5), 8: torch.rand(1, 3, 13, 13)} for _ in systems])
    total, magnetisation = (heads.of(8)[0] for heads in network.heads)
    torch.testing.assert_close(magnetisation.scale0_k, 0.03 * total.scale0_k)
    assert not magnetisation.mean_k.any()


def test_vectors_of_similar_elements_are_similar():
    """Without a training an element is where its free atom puts it."""
    torch.manual_seed(0)
    vectors = ElementVectors(3, 8, magnetic=False, charged=False)
    vectors.describe({1: element(7, L_ZJ[1]), 2: element(8, L_ZJ[1]), 3: element(17, L_ZJ[1])}, (1, 2, 3))
    v_zx = vectors(torch.arange(3), torch.zeros(3), torch.zeros(3)).detach().numpy()
    assert 0 < np.linalg.norm(v_zx[0] - v_zx[1]) < np.linalg.norm(v_zx[0] - v_zx[2])
