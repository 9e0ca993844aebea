"""What every network must pass: subclass :class:`DensityNetworkContract` and make a network.

    class TestMine(DensityNetworkContract):
        basis = SplineBasis(3.0, 4, 2)

        def make(self):
            return MyNetwork(self.species, MyHypers(), self.basis, self.l_zj)

Densities are compared at vectors from the atoms, matrices as they are or turned; nothing is evaluated on a grid here.
What a network says it cannot (:attr:`~.DensityNetwork.sees_magnetic_moments` and the like) is not asked
for; all else is.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.blocks import Joined, Whole
from ase_deepdensity.network.contract import Coefficient, Coefficients, DensityNetwork, Output
from ase_deepdensity.network.readout import features_of_system
from ase_deepdensity.network.system import System
from ase_deepdensity.testing.systems import (
    VECTORS,
    AtVectors,
    Said,
    box,
    element,
    magnetic_box,
    meeting,
    system_of,
    wigner,
)

EXACT = 1e-9
"""Of the largest value: what symmetries reach in float64."""
SINGLE = 2e-4
"""Of the largest value: float32 against float64."""


class DensityNetworkContract:
    """The tests; ``make`` and ``basis`` are to be given."""

    basis: SplineBasis
    species: tuple[int, ...] = (1, 8)
    l_zj: tuple[tuple[int, ...], ...] = ((0, 0, 1), (0, 1, 0, 1, 2))
    """Angular momenta of the projectors of hydrogen and oxygen."""

    def make(self) -> DensityNetwork:
        """A network for :attr:`species` with the projectors :attr:`l_zj` and random weights, none of which are zero."""
        raise NotImplementedError

    @pytest.fixture
    def network(self) -> DensityNetwork:
        """The network of :meth:`make`, float64, told its elements."""
        torch.manual_seed(0)
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            network = self.make().eval()
        finally:
            torch.set_default_dtype(previous)
        network.set_elements({Z: element(Z, l_j) for Z, l_j in zip(self.species, self.l_zj, strict=True)})
        return network

    def run(
        self,
        network: DensityNetwork,
        atoms: Atoms,
        position_av: torch.Tensor | None = None,
        vectors: np.ndarray = VECTORS,
    ) -> Said:
        """What it says of atoms, or of atoms that were moved to ``position_av``."""
        parameter = next(network.parameters())
        system = system_of(network, atoms, position_av).to(parameter.device, parameter.dtype)
        return self.said(network(system), system, vectors)

    def said(self, output: Output, system: System, vectors: np.ndarray = VECTORS) -> Said:
        r_pv = torch.from_numpy(vectors).to(output.invariants_ac)
        rho_esap = output.density(AtVectors(self.basis, system.natoms, r_pv)).cpu()
        D_aesii = [torch.empty(0)] * system.natoms
        for Z, D_esaii in output.D_zesaii.items():
            for a, D_esii in zip(system.atoms_of(Z).tolist(), D_esaii.cpu().unbind(2), strict=True):
                D_aesii[a] = D_esii
        return Said(rho_esap, D_aesii, output.invariants_ac.cpu())

    def assert_same(self, a: Said, b: Said, tolerance: float = EXACT) -> None:
        """Both say the same, but for rounding."""
        for x, y in zip(a.tensors(), b.tensors(), strict=True):
            scale = float(y.detach().abs().max())
            torch.testing.assert_close(x.double(), y.double(), rtol=0, atol=tolerance * scale)

    # What it puts out

    def test_says_whether_its_densities_are_expansions(self, network: DensityNetwork) -> None:
        assert isinstance(network(system_of(network, box())), Coefficients) == network.expands

    def test_shapes(self, network: DensityNetwork) -> None:
        atoms = box()
        said = self.run(network, atoms)
        assert said.rho_esap.shape == (network.members, 1, len(atoms), len(VECTORS))
        ni_z = {Z: sum(2 * l + 1 for l in l_j) for Z, l_j in zip(self.species, self.l_zj, strict=True)}
        for Z, D_esii in zip(atoms.numbers.tolist(), said.D_aesii, strict=True):
            assert D_esii.shape == (network.members, 1, ni_z[Z], ni_z[Z])
        assert said.invariants_ac.shape == (len(atoms), network.ninvariants)
        assert {Z: mean_ii.shape for Z, mean_ii in network.mean_zii.items()} == {Z: (n, n) for Z, n in ni_z.items()}

    def test_matrices_are_symmetric(self, network: DensityNetwork) -> None:
        for D_esii in self.run(network, box()).D_aesii:
            torch.testing.assert_close(D_esii, D_esii.mT, rtol=0, atol=EXACT * float(D_esii.detach().abs().max()))

    def test_weights_matter(self, network: DensityNetwork) -> None:
        """The other tests would pass on zeros, and on atoms that look the same from all sides."""
        said = self.run(network, box())
        assert float(said.rho_esap.detach().std(2).max()) > 1e-6
        turned = self.run(network, box(), vectors=VECTORS[:, [1, 2, 0]])
        assert float((said.rho_esap - turned.rho_esap).detach().abs().max()) > 1e-6
        assert float((said.D_aesii[0] - said.D_aesii[3]).detach().abs().max()) > 1e-6  # two of one element

    # Symmetries

    def test_translation(self, network: DensityNetwork) -> None:
        atoms, moved = box(), box()
        moved.positions += [0.3, -7.1, 2.2]
        self.assert_same(self.run(network, moved), self.run(network, atoms))

    def test_lattice_translation_of_single_atoms(self, network: DensityNetwork) -> None:
        atoms, moved = box(), box()
        moved.positions[3] += [1, -2, 0] @ atoms.cell.array
        self.assert_same(self.run(network, moved), self.run(network, atoms))

    @pytest.mark.parametrize('inversion', [False, True], ids=['rotation', 'rotation and inversion'])
    def test_rotation(self, network: DensityNetwork, inversion: bool) -> None:
        R_vv = Rotation.random(rng=np.random.default_rng(3)).as_matrix() * (-1 if inversion else 1)
        atoms = magnetic_box() if network.sees_magnetic_moments else box()
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ R_vv.T)
        turned.positions = atoms.positions @ R_vv.T
        before, after = self.run(network, atoms), self.run(network, turned, vectors=VECTORS @ R_vv.T)
        W_zii = {
            Z: torch.from_numpy(block_diag(*(wigner(R_vv, l) for l in l_j)))
            for Z, l_j in zip(self.species, self.l_zj, strict=True)
        }
        D_aesii = [
            W_zii[Z] @ D_esii @ W_zii[Z].T for Z, D_esii in zip(atoms.numbers.tolist(), before.D_aesii, strict=True)
        ]
        self.assert_same(after, Said(before.rho_esap, D_aesii, before.invariants_ac))

    def test_permutation(self, network: DensityNetwork) -> None:
        atoms = magnetic_box() if network.sees_magnetic_moments else box()
        order = np.random.default_rng(5).permutation(len(atoms)).tolist()
        self.assert_same(self.run(network, atoms[order]), self.run(network, atoms).of(order))

    def test_tiling(self, network: DensityNetwork) -> None:
        atoms = box()
        twice_as_long = atoms.repeat((2, 1, 1))
        twice_as_long.info['kpts'] = np.array([[0.5, 0, 0.1]])  # what KPTS are in this cell
        twice = [*range(len(atoms))] * 2
        self.assert_same(self.run(network, twice_as_long), self.run(network, atoms).of(twice))

    # Batches

    def test_several_systems_at_once(self, network: DensityNetwork) -> None:
        """Of different sizes and elements, in the order in which they come."""
        parameter = next(network.parameters())
        several = [
            box(),
            Atoms('HOH', [[0, 0.7, 0.6], [0, 0, 0], [0, -0.7, 0.6]], cell=[5] * 3),
            Atoms('H', cell=[6] * 3),
            Atoms('OHO', VECTORS[:3], cell=[6] * 3),
            box(6, 1),
        ]
        if network.sees_charge:
            several[1].info['charge'] = 1.0
        systems = [system_of(network, atoms).to(dtype=parameter.dtype) for atoms in several]
        joint = System.join(systems, network.cutoff)
        for atoms, system, output in zip(several, systems, network(joint).split(joint), strict=True):
            self.assert_same(self.said(output, system), self.run(network, atoms))

    # Blocks of large systems

    def test_blocks_are_the_whole(self, network: DensityNetwork) -> None:
        """Charges, moments and k-points included, in a cell that is smaller than what the network hears of."""
        if network.steps is None:
            pytest.skip('it is shown whole systems only')
        assert network.reach == network.steps * network.cutoff
        atoms = magnetic_box() if network.sees_magnetic_moments else box()
        if network.sees_charge:
            atoms.info['charge'] = 1.0
        system = system_of(network, atoms)
        whole = Whole(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc,
            float(system.charge_t), atoms.get_initial_magnetic_moments(), system.response_mac,
        )  # fmt: skip
        joined, dtype = Joined(atoms.numbers, network(system).components), next(network.parameters()).dtype
        for core_a in whole.cores(4):
            assert len(core_a) <= 4
            joined.add(core_a, network(whole.block(core_a, network.cutoff, network.steps).to(dtype=dtype)))
        expected, said = self.run(network, atoms), self.said(joined.output(), system)
        self.assert_same(Said(said.rho_esap, said.D_aesii, expected.invariants_ac), expected)  # blocks keep none

    # Precision, devices, files

    def test_float32(self, network: DensityNetwork) -> None:
        exact = self.run(network, box())
        self.assert_same(self.run(network.float(), box()), exact, SINGLE)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
    def test_cuda(self, network: DensityNetwork) -> None:
        expected = self.run(network, box())
        self.assert_same(self.run(network.cuda(), box()), expected)

    def test_state_dict(self, network: DensityNetwork) -> None:
        """Another network of the same sizes says the same with the state of this one."""
        said, state = self.run(network, box()), copy.deepcopy(network.state_dict())
        for tensor in network.state_dict().values():
            tensor.zero_()
        network.load_state_dict(state)
        self.assert_same(self.run(network, box()), said, 0.0)
        shapes = type(network).telling_shapes(self.species, network.hypers, self.basis, self.l_zj)
        assert shapes and {name: tuple(state[name].shape) for name in shapes} == shapes

    # Smoothness

    def test_gradient_with_respect_to_positions(self, network: DensityNetwork) -> None:
        atoms = box()
        direction_av = torch.from_numpy(np.random.default_rng(7).normal(size=(len(atoms), 3)))

        def value(position_av: torch.Tensor) -> torch.Tensor:
            said = self.run(network, atoms, position_av)
            parts = [said.rho_esap, *said.D_aesii]
            return torch.stack([(x * torch.cos(torch.arange(x.numel()).view_as(x))).sum() for x in parts]).sum()

        position_av = torch.from_numpy(atoms.positions).requires_grad_()
        (gradient_av,) = torch.autograd.grad(value(position_av), position_av)
        h = 1e-5
        with torch.no_grad():
            numerical = (value(position_av + h * direction_av) - value(position_av - h * direction_av)) / (2 * h)
        assert float((gradient_av * direction_av).sum()) == pytest.approx(float(numerical), rel=1e-6)

    def test_smooth_where_a_neighbour_enters(self, network: DensityNetwork) -> None:
        """The change over ±h around the cutoff is O(h³): value, slope and curvature are continuous."""
        h = 1e-3
        inside, outside = (self.run(network, meeting(network.cutoff + step)) for step in (-h, h))
        self.assert_same(inside, outside, 1e-6)

    def test_smooth_where_the_density_ends_and_at_the_nucleus(self, network: DensityNetwork) -> None:
        """Straight through an atom and out over the cutoff of the basis: no jumps of value or slope."""
        direction_v = np.array([0.3, 0, 1]) / np.linalg.norm([0.3, 0, 1])
        near_p = np.linspace(-2e-3, 2e-3, 5)
        vectors = np.concatenate([near_p, self.basis.cutoff * (1 + near_p)])[:, None] * direction_v
        rho_esap = self.run(network, box(), vectors=vectors).rho_esap.detach()
        scale = float(self.run(network, box()).rho_esap.detach().abs().max())
        centre_esap, end_esap = rho_esap[..., :5], rho_esap[..., 5:]
        assert float(centre_esap.diff(dim=3).diff(dim=3).abs().max()) < 1e-4 * scale
        assert float(end_esap.abs().max()) < 1e-5 * scale

    # Elements

    def test_single_atom_and_missing_species(self, network: DensityNetwork) -> None:
        R_vv = Rotation.random(rng=np.random.default_rng(4)).as_matrix()
        atom = Atoms('O', [[0, 0, 0]], cell=[20] * 3)
        said, turned = self.run(network, atom), self.run(network, atom, vectors=VECTORS @ R_vv.T)
        assert set(network(system_of(network, atom)).D_zesaii) == {8}
        assert torch.isfinite(said.rho_esap).all()
        scale = float(said.rho_esap.detach().abs().max())
        torch.testing.assert_close(turned.rho_esap, said.rho_esap, rtol=0, atol=EXACT * scale)  # a sphere

    def test_unknown_element(self, network: DensityNetwork) -> None:
        with pytest.raises(ValueError, match=r'\[6\] are not among \[1, 8\]'):
            self.run(network, Atoms('CH', [[0, 0, 0], [0, 0, 1.1]], cell=[9] * 3))

    def test_invariants_tell_of_missing_neighbours(self, network: DensityNetwork) -> None:
        """Each neighbour that goes, and a lone atom, changes them by more than a displacement of 0.02 Å does."""
        atoms = box()
        said, moved = self.run(network, atoms), atoms.copy()
        moved.rattle(0.02, seed=0)
        least = float((self.run(network, moved).invariants_ac - said.invariants_ac)[0].detach().norm())
        near_a = np.argsort(atoms.get_distances(0, range(len(atoms)), mic=True))[1:4]
        others = [[a for a in range(len(atoms)) if a != gone] for gone in near_a]
        for kept in [*others, [0]]:
            fewer = self.run(network, atoms[kept])
            assert float((fewer.invariants_ac[0] - said.invariants_ac[0]).detach().norm()) > least, kept

    # Spin, charge, members

    def test_moments_that_are_not_seen_change_nothing(self, network: DensityNetwork) -> None:
        if not network.sees_magnetic_moments:
            self.assert_same(self.run(network, magnetic_box()), self.run(network, box()), 0.0)

    def test_flipping_all_moments_flips_the_magnetisation(self, network: DensityNetwork) -> None:
        if not network.sees_magnetic_moments:
            pytest.skip('the network is spin-paired')
        atoms, flipped = magnetic_box(), magnetic_box()
        flipped.set_initial_magnetic_moments(-atoms.get_initial_magnetic_moments())
        up, down = self.run(network, atoms), self.run(network, flipped)
        sign_s = torch.tensor([1.0, -1.0])
        assert torch.equal(down.rho_esap, up.rho_esap * sign_s[:, None, None])
        for D_down, D_up in zip(down.D_aesii, up.D_aesii, strict=True):
            assert torch.equal(D_down, D_up * sign_s[:, None, None])
        assert torch.equal(down.invariants_ac, up.invariants_ac)
        assert float(up.rho_esap[:, 1].detach().abs().max()) > 1e-3 * float(up.rho_esap[:, 0].detach().abs().max())
        paired = self.run(network, box()).rho_esap
        assert float((up.rho_esap[:, :1] - paired).detach().abs().max()) > 1e-6, 'the total hangs on moments too'

    def test_systems_without_moments_have_no_magnetisation(self, network: DensityNetwork) -> None:
        """Not even beside others that have one."""
        if not network.sees_magnetic_moments:
            pytest.skip('the network is spin-paired')
        systems = [system_of(network, atoms) for atoms in (box(), magnetic_box())]
        joint = System.join(systems, network.cutoff)
        output = network(joint)
        both = self.said(output, joint)
        atoms_a = list(range(systems[0].natoms))
        assert both.rho_esap.shape[1] == 2 and not both.rho_esap[:, 1, atoms_a].any()
        assert not any(both.D_aesii[a][:, 1].any() for a in atoms_a)
        part = self.said(output.split(joint)[0], systems[0])
        total = Said(part.rho_esap[:, :1], [D_esii[:, :1] for D_esii in part.D_aesii], part.invariants_ac)
        self.assert_same(total, self.run(network, box()))

    def test_charge(self, network: DensityNetwork) -> None:
        charged = box()
        charged.info['charge'] = 1.0
        difference = self.run(network, charged).rho_esap - self.run(network, box()).rho_esap
        assert (float(difference.detach().abs().max()) > 1e-6) == network.sees_charge

    def test_the_mean_over_members_is_the_prediction(self, network: DensityNetwork) -> None:
        system = system_of(network, box())
        output = network(system)
        said, mean = self.said(output, system), self.said(output.mean(), system)
        expected = [D_esii.mean(0, keepdim=True) for D_esii in said.D_aesii]
        self.assert_same(mean, Said(said.rho_esap.mean(0, keepdim=True), expected, said.invariants_ac))
        if network.members > 1:
            assert float(said.rho_esap.detach().std(0).min(dim=0).values.max()) > 1e-6, 'members differ'

    # Scales

    @torch.no_grad()
    def test_the_last_layer_is_linear(self, network: DensityNetwork) -> None:
        """What other weights say is the difference of two networks; only those with an expansion have such a layer."""
        system = system_of(network, box())
        if not network.expands:
            with pytest.raises(ValueError, match='last layer'):
                network.features(system)
            return
        layer, features = network.last_layer(), network.features(system)
        change = {key: torch.randn_like(zeros) for key, zeros in layer.zeros().items()}
        said = layer.says(features, {key: change_co[None] for key, change_co in change.items()}, system)
        before, other = network(system), copy.deepcopy(network)
        other.last_layer().add(change)
        after = other(system)
        for c_eanm, before_eanm, after_eanm in zip(said.c_lesanm, before.c_lesanm, after.c_lesanm, strict=True):
            assert float(c_eanm.abs().max()) > 0
            torch.testing.assert_close(after_eanm[:, 0] - before_eanm[:, 0], c_eanm[:, 0].expand_as(after_eanm[:, 0]))
        difference_zaii = {Z: (D_esaii - before.D_zesaii[Z])[0, 0] for Z, D_esaii in after.D_zesaii.items()}
        for Z, D_aii in difference_zaii.items():
            torch.testing.assert_close(D_aii, said.D_zesaii[Z][0, 0])
        for key, x_bma in layer.components(difference_zaii, features).items():
            written_mab = features[key] @ change[key][:, layer.readouts[key].functions :]
            torch.testing.assert_close(x_bma, written_mab.permute(2, 0, 1))

    @torch.no_grad()
    def test_features_come_with_what_is_said(self, network: DensityNetwork) -> None:
        """One pass gives both, of several systems as of one, and what is said is the same to the last bit."""
        if not network.expands:
            with pytest.raises(ValueError, match='last layer'):
                network.with_features(system_of(network, box()))
            return
        systems = [system_of(network, box(seed=seed)) for seed in range(2)]
        together = System.join(systems, network.cutoff)
        output, features = network.with_features(together)
        assert isinstance(output, Coefficients)
        for c_esanm, alone_esanm in zip(output.c_lesanm, network(together).c_lesanm, strict=True):
            assert torch.equal(c_esanm, alone_esanm)
        for t, system in enumerate(systems):
            part, alone = features_of_system(features, together, t), network.features(system)
            assert part.keys() == alone.keys()
            for key, x_mac in alone.items():
                torch.testing.assert_close(part[key], x_mac, rtol=1e-4, atol=1e-5)
            again = network(together.of_system(t))
            for c_esanm, alone_esanm in zip(again.c_lesanm, network(system).c_lesanm, strict=True):
                torch.testing.assert_close(c_esanm, alone_esanm, rtol=1e-4, atol=1e-5)

    def test_scales_come_from_the_data(self, network: DensityNetwork) -> None:
        """Means of its training data are there after the fit, and what it says is finite."""
        torch.manual_seed(1)
        systems = [system_of(network, box(seed=seed)) for seed in range(3)]
        sizes: list[int] = []

        def fit(expand: Any, number_k: list[int]) -> list[list[Coefficient]]:
            sizes[:] = number_k
            return [
                [[0.01 * torch.randn(9, k, 2 * l + 1, dtype=torch.float64) for l, k in enumerate(number_k)]]
                for _ in systems
            ]

        D_tzsaii = [
            {
                Z: torch.eye(len(mean_ii), dtype=torch.float64)
                + 0.003 * _symmetric(len(system.atoms_of(Z)), len(mean_ii))
                for Z, mean_ii in network.mean_zii.items()
            }
            for system in systems
        ]
        network.fit_scale(systems, fit, D_tzsaii)
        assert len(sizes) == self.basis.lmax + 1
        for mean_ii in network.mean_zii.values():
            torch.testing.assert_close(mean_ii, torch.eye(len(mean_ii)).to(mean_ii), rtol=0, atol=0.02)
        assert all(x.isfinite().all() for x in self.run(network, box(seed=1)).tensors())

    def test_scales_need_all_elements(self, network: DensityNetwork) -> None:
        hydrogen = system_of(network, Atoms('H', cell=[5] * 3))

        def fit(expand: Any, number_k: list[int]) -> list[list[Coefficient]]:
            return [[[torch.zeros(1, k, 2 * l + 1, dtype=torch.float64) for l, k in enumerate(number_k)]]]

        D_zsaii = {1: torch.zeros(1, 1, *network.mean_zii[1].shape, dtype=torch.float64)}
        with pytest.raises(ValueError, match='no snapshot to take scales from has the element 8'):
            network.fit_scale([hydrogen], fit, [D_zsaii])


def _symmetric(natoms: int, ni: int) -> torch.Tensor:
    """Random symmetric matrices, (1, natoms, ni, ni)."""
    D_saii = torch.randn(1, natoms, ni, ni, dtype=torch.float64)
    return D_saii + D_saii.mT
