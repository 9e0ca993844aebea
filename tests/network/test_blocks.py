"""Blocks of large systems: which atoms they hold."""

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from ase_deepdensity.network.blocks import Whole

CUTOFF, STEPS = 2.0, 2


def many_atoms(pbc: tuple[bool, ...] | bool, skew: float = 0.0) -> Atoms:
    rng = np.random.default_rng(0)
    cell_cv = np.array([[9.0, 0, 0], [skew, 7.0, 0], [-skew, skew, 5.0]])
    return Atoms(
        numbers=rng.choice([1, 8], 90), scaled_positions=rng.uniform(-0.5, 1.5, (90, 3)), cell=cell_cv, pbc=pbc
    )


def whole_of(atoms: Atoms) -> Whole:
    return Whole(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, 0.0, np.zeros(len(atoms)))


CASES = {
    'periodic': many_atoms(True),
    'skewed': many_atoms(True, 2.0),
    'slab': many_atoms((True, True, False)),
    'cluster': many_atoms(False, 1.0),
    'far out': Atoms('OHOH', [[0, 0, 0], [0, 0, 1.5], [30, 0, 0], [30, 0, 1.5]], cell=[8] * 3),
    'smaller than the cutoff': Atoms('OH', [[0, 0, 0], [0, 0, 1]], cell=[1.6, 1.7, 2.1], pbc=True),
}


@pytest.mark.parametrize('most', [1, 7, 1000])
@pytest.mark.parametrize('case', CASES)
def test_each_atom_is_in_one_block(case, most):
    cores = list(whole_of(CASES[case]).cores(most))
    np.testing.assert_array_equal(np.sort(np.concatenate(cores)), np.arange(len(CASES[case])))
    assert max(map(len, cores)) <= most
    assert all((np.diff(core_a) > 0).all() for core_a in cores)


@pytest.mark.parametrize('most', [1, 7, 1000])
@pytest.mark.parametrize('case', CASES)
def test_neighbours_in_a_block(case, most):
    """All atoms but those of the last shell have all their neighbours, where ASE finds them."""
    atoms = CASES[case]
    i_e, j_e, D_ev = neighbor_list('ijD', atoms, CUTOFF)
    wanted: list[list[tuple[float, ...]]] = [[] for _ in atoms]
    for i, j, D_v in zip(i_e, j_e, D_ev, strict=True):
        wanted[i].append((int(atoms.numbers[j]), *np.round(D_v, 6) + 0.0))
    whole = whole_of(atoms)
    for core_a in whole.cores(most):
        block = whole.block(core_a, CUTOFF, STEPS)
        shell_a = block.shell_a.numpy()
        np.testing.assert_array_equal(block.number_a.numpy()[: len(core_a)], atoms.numbers[core_a])
        assert (shell_a[: len(core_a)] == 0).all() and (shell_a[len(core_a) :] > 0).all()
        assert (np.diff(shell_a) >= 0).all() and shell_a.max() <= STEPS
        assert len(block.vector_akv) == block.within(STEPS - 1)
        found = [
            sorted(
                (int(block.number_a[b]), *np.round(vector_v.numpy(), 6) + 0.0)
                for b, vector_v in zip(block.neighbor_ak[row], block.vector_akv[row], strict=True)
                if float(vector_v.norm()) < CUTOFF - 1e-9
            )
            for row in range(block.within(STEPS - 1))
        ]
        assert found[: len(core_a)] == [sorted(wanted[a]) for a in core_a]
        assert all(found[len(core_a) :]), 'an atom of a shell has no neighbour'


def test_blocks_do_not_grow_with_the_system():
    small, large = many_atoms(True), many_atoms(True).repeat((5, 2, 3))
    sizes = [max(whole_of(atoms).block(core_a, CUTOFF, STEPS).natoms for core_a in whole_of(atoms).cores(30))
             for atoms in (small, large)]  # fmt: skip
    assert sizes[1] < 1.3 * sizes[0]
