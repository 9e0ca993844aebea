"""What every network must pass: subclass ``DensityNetworkContract`` and make a network.

Coefficients and matrices are compared as they are or turned; nothing is evaluated on a grid here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from ase_deepdensity.harmonics import solid_harmonics
from ase_deepdensity.network.contract import Coefficients, DensityNetwork
from ase_deepdensity.network.graph import build_graph

EXACT = 1e-9
"""Of the largest value: what symmetries reach in float64."""
SINGLE = 2e-4
"""Of the largest value: float32 against float64."""
L_SJ = ((0, 0, 1), (0, 1, 0, 1, 2))
"""Angular momenta of the projectors of hydrogen and oxygen."""


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
    """The tests; ``make`` is to be given."""

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

    def run(self, network: DensityNetwork, atoms: Atoms, positions: torch.Tensor | None = None) -> Coefficients:
        """Coefficients in the order of the atoms."""
        dtype = next(network.parameters()).dtype
        graph = build_graph(
            atoms.numbers,
            atoms.positions if positions is None else positions,
            atoms.cell.array,
            atoms.pbc,
            network.species,
            network.cutoff,
        ).to(dtype=dtype)
        output = network(graph)
        back_a = torch.argsort(graph.order_a)
        first = torch.cumsum(torch.tensor([0, *graph.counts]), 0)
        D_saii = [
            output.D_saii[s][torch.argsort(graph.order_a[first[s] : first[s + 1]])] for s in range(len(graph.counts))
        ]
        return Coefficients([c[back_a] for c in output.c_lanm], D_saii, output.invariants_ac[back_a])

    def assert_same(self, a: Coefficients, b: Coefficients, tolerance: float = EXACT) -> None:
        pairs = [*zip(a.c_lanm, b.c_lanm, strict=True), *zip(a.D_saii, b.D_saii, strict=True)]
        pairs.append((a.invariants_ac, b.invariants_ac))
        for x, y in pairs:
            scale = float(y.detach().abs().max())
            torch.testing.assert_close(x.double(), y.double(), rtol=0, atol=tolerance * scale)

    def test_weights_matter(self, network):
        """The other tests would pass on zeros."""
        output = self.run(network, box())
        assert all(float(c.detach().abs().max()) > 1e-6 for c in output.c_lanm)
        assert all(float(D.detach().std(0).abs().max()) > 1e-6 for D in output.D_saii)

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
        before, after = self.run(network, atoms), self.run(network, turned)
        W_lmm = [torch.from_numpy(wigner(R_vv, l)) for l in range(max(len(before.c_lanm), 3))]
        expected_c = [torch.einsum('mk, ank -> anm', W_lmm[l], c_anm) for l, c_anm in enumerate(before.c_lanm)]
        expected_D = []
        for l_j, D_aii in zip(L_SJ, before.D_saii, strict=True):
            W_ii = torch.from_numpy(block_diagonal([W_lmm[l].numpy() for l in l_j]))
            expected_D.append(torch.einsum('ik, akl, jl -> aij', W_ii, D_aii, W_ii))
        self.assert_same(after, Coefficients(expected_c, expected_D, before.invariants_ac))

    def test_permutation(self, network):
        atoms = box()
        order = np.random.default_rng(5).permutation(len(atoms))
        output, permuted = self.run(network, atoms), self.run(network, atoms[order])
        order_s = [[int(a) for a in order if atoms.numbers[a] == number] for number in network.species]
        ranks_s = [
            np.searchsorted(np.flatnonzero(atoms.numbers == number), rows)
            for number, rows in zip(network.species, order_s, strict=True)
        ]
        expected = Coefficients(
            [c[order] for c in output.c_lanm],
            [D[ranks] for D, ranks in zip(output.D_saii, ranks_s, strict=True)],
            output.invariants_ac[order],
        )
        self.assert_same(permuted, expected)

    def test_tiling(self, network):
        atoms = box()
        output, tiled = self.run(network, atoms), self.run(network, atoms.repeat((2, 1, 1)))
        self.assert_same(
            tiled,
            Coefficients(
                [torch.cat([c, c]) for c in output.c_lanm],
                [torch.cat([D, D]) for D in output.D_saii],
                torch.cat([output.invariants_ac] * 2),
            ),
        )

    def test_float32(self, network):
        exact = self.run(network, box())
        self.assert_same(self.run(network.float(), box()), exact, SINGLE)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
    def test_cuda(self, network):
        atoms = box()
        graph = build_graph(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, network.species, network.cutoff
        )
        expected = network(graph)
        output = network.cuda()(graph.to('cuda'))
        self.assert_same(
            Coefficients(
                [c.cpu() for c in output.c_lanm], [D.cpu() for D in output.D_saii], output.invariants_ac.cpu()
            ),
            expected,
        )

    def test_gradient_with_respect_to_positions(self, network):
        atoms = box()
        rng = np.random.default_rng(7)
        direction_av = torch.from_numpy(rng.normal(size=(len(atoms), 3)))

        def value(position_av: torch.Tensor) -> torch.Tensor:
            output = self.run(network, atoms, position_av)
            parts = [*output.c_lanm, *output.D_saii]
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
        outputs = []
        for distance in network.cutoff - h, network.cutoff + h:
            atoms = Atoms('OHO', [[0, 0, 0], [0, 0.9, -0.3], [0, 0, distance]], cell=[20] * 3)
            outputs.append(self.run(network, atoms))
        self.assert_same(*outputs, 1e-6)

    def test_single_atom_and_missing_species(self, network):
        output = self.run(network, Atoms('O', [[0, 0, 0]], cell=[20] * 3))
        assert len(output.D_saii[0]) == 0
        for l, c_anm in enumerate(output.c_lanm):
            assert torch.isfinite(c_anm).all()
            if l > 0:
                assert float(c_anm.detach().abs().max()) < EXACT, 'a lone atom is a sphere'

    def test_unknown_element(self, network):
        with pytest.raises(ValueError, match=r'\[6\] are not among \[1, 8\]'):
            self.run(network, Atoms('CH', [[0, 0, 0], [0, 0, 1.1]], cell=[9] * 3))
