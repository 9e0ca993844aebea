"""What every network must pass: subclass ``DensityNetworkContract`` and make a network.

Densities are compared at vectors from the atoms, matrices as they are or turned; nothing is evaluated on a grid here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.harmonics import solid_harmonics
from ase_deepdensity.network.contract import Coefficients, DensityNetwork, Output
from ase_deepdensity.network.graph import Graph, build_graph, join
from ase_deepdensity.network.radial import splines

EXACT = 1e-9
"""Of the largest value: what symmetries reach in float64."""
SINGLE = 2e-4
"""Of the largest value: float32 against float64."""
L_SJ = ((0, 0, 1), (0, 1, 0, 1, 2))
"""Angular momenta of the projectors of hydrogen and oxygen."""
VECTORS = np.random.default_rng(9).normal(size=(12, 3))
"""From each atom to where the density that it contributes is looked at, Å."""


KPTS = np.array([[0.25, 0, 0.1], [-0.25, 0, 0.1]])
"""Scaled k-points, for networks that are told about them; time reversal brings two more."""


def graph_of(network: DensityNetwork, atoms: Atoms, positions: torch.Tensor | None = None) -> Graph:
    """The graph of atoms, with k-points ``atoms.info['kpts']`` or ``KPTS``, and a free electron per proton."""
    waves = None
    if network.sees_kpoints:
        waves = network.waves(atoms.cell.array, atoms.info.get('kpts', KPTS), float(atoms.numbers.sum()))
    positions = atoms.positions if positions is None else positions
    return build_graph(atoms.numbers, positions, atoms.cell.array, atoms.pbc, network.species, network.cutoff, waves)


def meeting(distance: float) -> Atoms:
    """Three atoms, the third ``distance`` away from the first."""
    return Atoms('OHO', [[0, 0, 0], [0, 0.9, -0.3], [0, 0, distance]], cell=[20] * 3)


@dataclass
class Said:
    """What a network says, in the order of the atoms (matrices: of the atoms of each species)."""

    rho_ap: torch.Tensor
    D_saii: list[torch.Tensor]
    invariants_ac: torch.Tensor


@dataclass
class AtVectors:
    """A writer of densities: each atom's own contribution at the same vectors from it."""

    basis: SplineBasis
    r_pv: torch.Tensor
    slices: list[slice]

    def expansion(self, c_lanm: list[torch.Tensor]) -> torch.Tensor:
        Y_pL, B_pn = solid_harmonics(self.r_pv, self.basis.lmax), splines(self.basis, self.r_pv.norm(dim=1))
        norms = [torch.from_numpy(self.basis.norm_n(l)).to(B_pn) for l in range(self.basis.lmax + 1)]
        return sum(
            torch.einsum('pm, pn, n, anm -> ap', Y_pL[:, l * l : (l + 1) ** 2], B_pn, norm_n, c_anm)
            for l, (norm_n, c_anm) in enumerate(zip(norms, c_lanm, strict=True))
        )

    def points(self, contribution, slices, cutoff) -> torch.Tensor:
        assert slices == self.slices and cutoff <= self.basis.cutoff
        number = len(self.r_pv)
        parts = []
        for s, atoms in enumerate(slices):
            a_p = torch.arange(atoms.start, atoms.stop, device=self.r_pv.device).repeat_interleave(number)
            parts.append(contribution(s, a_p, self.r_pv.repeat(atoms.stop - atoms.start, 1)).view(-1, number))
        return torch.cat(parts)


def box(natoms: int = 9, seed: int = 0) -> Atoms:
    """Atoms at random in a small skewed cell, none too near to another."""
    rng = np.random.default_rng(seed)
    cell = np.array([[4.5, 0.3, 0.0], [-0.8, 4.2, 0.4], [0.5, 0.9, 4.8]])
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < natoms:
        more = atoms + Atoms('OHH'[len(atoms) % 3], [rng.random(3) @ cell])
        if len(more) == 1 or more.get_all_distances(mic=True)[-1, :-1].min() > 0.9:
            atoms = more
    return atoms


def wigner(rotation_vv: np.ndarray, l: int) -> np.ndarray:
    """(2l+1, 2l+1) matrix with Y_m(R r) = Σ_n W_mn Y_n(r)."""
    points_pv = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 3)))
    Y_pm = solid_harmonics(points_pv, l)[:, l * l :].numpy()
    turned_pm = solid_harmonics(points_pv @ torch.from_numpy(rotation_vv.T), l)[:, l * l :].numpy()
    return np.linalg.lstsq(Y_pm, turned_pm, rcond=None)[0].T


def block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    from scipy.linalg import block_diag

    return block_diag(*blocks)


class DensityNetworkContract:
    """The tests; ``make`` and ``basis`` are to be given."""

    basis: SplineBasis

    def make(self) -> DensityNetwork:
        """A network for hydrogen and oxygen with random weights and the projectors ``L_SJ``."""
        raise NotImplementedError

    @pytest.fixture
    def network(self) -> DensityNetwork:
        torch.manual_seed(0)
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return self.make().eval()
        finally:
            torch.set_default_dtype(previous)

    def run(
        self,
        network: DensityNetwork,
        atoms: Atoms,
        positions: torch.Tensor | None = None,
        vectors: np.ndarray = VECTORS,
    ) -> Said:
        parameter = next(network.parameters())
        graph = graph_of(network, atoms, positions).to(parameter.device, parameter.dtype)
        return self.said(network(graph), graph, vectors)

    def said(self, output: Output, graph: Graph, vectors: np.ndarray = VECTORS) -> Said:
        parameter = output.invariants_ac
        rho_ap = output.density(AtVectors(self.basis, torch.from_numpy(vectors).to(parameter), graph.slices))
        order_a = graph.order_a.cpu()
        back_a = torch.argsort(order_a)
        D_saii = [D_aii.cpu()[torch.argsort(order_a[a])] for a, D_aii in zip(graph.slices, output.D_saii, strict=True)]
        return Said(rho_ap.cpu()[back_a], D_saii, output.invariants_ac.cpu()[back_a])

    def assert_same(self, a: Said, b: Said, tolerance: float = EXACT) -> None:
        pairs = [(a.rho_ap, b.rho_ap), *zip(a.D_saii, b.D_saii, strict=True), (a.invariants_ac, b.invariants_ac)]
        for x, y in pairs:
            scale = float(y.detach().abs().max())
            torch.testing.assert_close(x.double(), y.double(), rtol=0, atol=tolerance * scale)

    def test_says_whether_its_densities_are_expansions(self, network):
        graph = graph_of(network, box()).to(dtype=torch.float64)
        assert isinstance(network(graph), Coefficients) == network.expands

    def test_weights_matter(self, network):
        """The other tests would pass on zeros, and on atoms that look the same from all sides."""
        said = self.run(network, box())
        assert float(said.rho_ap.detach().std(0).max()) > 1e-6
        turned = self.run(network, box(), vectors=VECTORS[:, [1, 2, 0]])
        assert float((said.rho_ap - turned.rho_ap).detach().abs().max()) > 1e-6
        assert all(float(D.detach().std(0).abs().max()) > 1e-6 for D in said.D_saii)

    def test_translation(self, network):
        atoms, moved = box(), box()
        moved.positions += [0.3, -7.1, 2.2]
        self.assert_same(self.run(network, moved), self.run(network, atoms))

    def test_lattice_translation_of_single_atoms(self, network):
        atoms, moved = box(), box()
        moved.positions[3] += [1, -2, 0] @ atoms.cell.array
        self.assert_same(self.run(network, moved), self.run(network, atoms))

    @pytest.mark.parametrize('inversion', [False, True], ids=['rotation', 'rotation and inversion'])
    def test_rotation(self, network, inversion):
        R_vv = Rotation.random(rng=np.random.default_rng(3)).as_matrix() * (-1 if inversion else 1)
        atoms, turned = box(), box()
        turned.set_cell(atoms.cell.array @ R_vv.T)
        turned.positions = atoms.positions @ R_vv.T
        before, after = self.run(network, atoms), self.run(network, turned, vectors=VECTORS @ R_vv.T)
        expected_D = []
        for l_j, D_aii in zip(L_SJ, before.D_saii, strict=True):
            W_ii = torch.from_numpy(block_diagonal([wigner(R_vv, l) for l in l_j]))
            expected_D.append(torch.einsum('ik, akl, jl -> aij', W_ii, D_aii, W_ii))
        self.assert_same(after, Said(before.rho_ap, expected_D, before.invariants_ac))

    def test_permutation(self, network):
        atoms = box()
        order = np.random.default_rng(5).permutation(len(atoms))
        said, permuted = self.run(network, atoms), self.run(network, atoms[order])
        order_s = [[int(a) for a in order if atoms.numbers[a] == number] for number in network.species]
        ranks_s = [
            np.searchsorted(np.flatnonzero(atoms.numbers == number), rows)
            for number, rows in zip(network.species, order_s, strict=True)
        ]
        D_saii = [D[ranks] for D, ranks in zip(said.D_saii, ranks_s, strict=True)]
        self.assert_same(permuted, Said(said.rho_ap[order], D_saii, said.invariants_ac[order]))

    def test_several_sets_of_atoms_at_once(self, network):
        parameter = next(network.parameters())
        systems = [
            box(),
            Atoms('HOH', [[0, 0.7, 0.6], [0, 0, 0], [0, -0.7, 0.6]], cell=[5] * 3),
            Atoms('OHO', VECTORS[:3], cell=[6] * 3),
            box(6, 1),
        ]
        graphs = [graph_of(network, atoms).to(dtype=parameter.dtype) for atoms in systems]
        joint, slices_ts = join(graphs, network.cutoff)
        output = network(joint)
        for atoms, graph, slices in zip(systems, graphs, slices_ts, strict=True):
            self.assert_same(self.said(output.part(slices), graph), self.run(network, atoms))

    def test_tiling(self, network):
        atoms = box()
        twice_as_long = atoms.repeat((2, 1, 1))
        twice_as_long.info['kpts'] = np.array([[0.5, 0, 0.1]])  # what KPTS are in this cell
        said, tiled = self.run(network, atoms), self.run(network, twice_as_long)
        twice = [torch.cat([D, D]) for D in said.D_saii]
        self.assert_same(tiled, Said(torch.cat([said.rho_ap] * 2), twice, torch.cat([said.invariants_ac] * 2)))

    def test_float32(self, network):
        exact = self.run(network, box())
        self.assert_same(self.run(network.float(), box()), exact, SINGLE)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
    def test_cuda(self, network):
        expected = self.run(network, box())
        self.assert_same(self.run(network.cuda(), box()), expected)

    def test_gradient_with_respect_to_positions(self, network):
        atoms = box()
        rng = np.random.default_rng(7)
        direction_av = torch.from_numpy(rng.normal(size=(len(atoms), 3)))

        def value(position_av: torch.Tensor) -> torch.Tensor:
            said = self.run(network, atoms, position_av)
            parts = [said.rho_ap, *said.D_saii]
            return torch.stack([(x * torch.cos(torch.arange(x.numel()).view_as(x))).sum() for x in parts]).sum()

        position_av = torch.from_numpy(atoms.positions).requires_grad_()
        (gradient_av,) = torch.autograd.grad(value(position_av), position_av)
        h = 1e-5
        with torch.no_grad():
            numerical = (value(position_av + h * direction_av) - value(position_av - h * direction_av)) / (2 * h)
        assert float((gradient_av * direction_av).sum()) == pytest.approx(float(numerical), rel=1e-6)

    def test_smooth_where_a_neighbour_enters(self, network):
        """The change over ±h around the cutoff is O(h³): value, slope and curvature are continuous."""
        h = 1e-3
        inside, outside = (self.run(network, meeting(network.cutoff + step)) for step in (-h, h))
        self.assert_same(inside, outside, 1e-6)

    def test_smooth_where_the_density_ends_and_at_the_nucleus(self, network):
        """Straight through an atom and out over the cutoff of the basis: no jumps of value or slope."""
        z_p = np.concatenate([np.linspace(-2e-3, 2e-3, 5), self.basis.cutoff + np.linspace(-2e-3, 2e-3, 5)])
        vectors = np.stack([0.3 * z_p, np.zeros_like(z_p), z_p], axis=1)
        vectors[5:] *= (
            np.linspace(1 - 2e-3, 1 + 2e-3, 5)[:, None]
            * self.basis.cutoff
            / np.linalg.norm(vectors[5:], axis=1, keepdims=True)
        )
        rho_ap = self.run(network, box(), vectors=vectors).rho_ap.detach()
        scale = float(self.run(network, box()).rho_ap.detach().abs().max())
        centre_ap, end_ap = rho_ap[:, :5], rho_ap[:, 5:]
        assert float(centre_ap.diff(dim=1).diff(dim=1).abs().max()) < 1e-4 * scale
        assert float(end_ap.abs().max()) < 1e-5 * scale

    def test_single_atom_and_missing_species(self, network):
        R_vv = Rotation.random(rng=np.random.default_rng(4)).as_matrix()
        atom = Atoms('O', [[0, 0, 0]], cell=[20] * 3)
        said, turned = self.run(network, atom), self.run(network, atom, vectors=VECTORS @ R_vv.T)
        assert len(said.D_saii[0]) == 0
        assert torch.isfinite(said.rho_ap).all()
        scale = float(said.rho_ap.detach().abs().max())
        torch.testing.assert_close(turned.rho_ap, said.rho_ap, rtol=0, atol=EXACT * scale)  # a lone atom is a sphere

    def test_invariants_tell_of_missing_neighbours(self, network):
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

    def test_unknown_element(self, network):
        with pytest.raises(ValueError, match=r'\[6\] are not among \[1, 8\]'):
            self.run(network, Atoms('CH', [[0, 0, 0], [0, 0, 1.1]], cell=[9] * 3))
