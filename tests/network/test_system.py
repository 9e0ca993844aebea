import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from ase_deepdensity.network.by_species import SortedSystem
from ase_deepdensity.network.system import System, build_system
from ase_deepdensity.testing.systems import box


def edges_of(system, cutoff):
    """Sorted rows (atom, neighbour, vector), padding left out."""
    length_ak = system.vector_akv.norm(dim=2).numpy()
    rows = [
        (a, int(system.neighbor_ak[a, k]), *np.round(system.vector_akv[a, k].numpy(), 6) + 0.0)
        for a, k in np.argwhere(length_ak < cutoff - 1e-9)
    ]
    return sorted(rows)


def built(atoms, cutoff, **kwargs):
    return build_system(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, cutoff, **kwargs)


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
    system = built(atoms, cutoff)
    i, j, D = neighbor_list('ijD', atoms, cutoff)
    expected = sorted((a, b, *np.round(d, 6) + 0.0) for a, b, d in zip(i, j, D, strict=True))
    np.testing.assert_allclose(edges_of(system, cutoff), expected, atol=2e-6)
    padding_ak = system.vector_akv.norm(dim=2) >= cutoff - 1e-9
    own_ak = torch.arange(len(atoms))[:, None].expand_as(system.neighbor_ak)
    assert (system.neighbor_ak == own_ak)[padding_ak].all()
    assert system.numbers == tuple(sorted(set(atoms.numbers.tolist())))
    for Z in (1, 6, 8):
        assert system.atoms_of(Z).tolist() == np.flatnonzero(atoms.numbers == Z).tolist()


def test_joining():
    """Each system keeps its atoms, neighbours and conditions; joining joint systems is the same."""
    several = [atoms for atoms, _ in CASES.values()]
    systems = [built(atoms, 3.0, charge=t, magmom_a=np.full(len(atoms), 0.1 * t)) for t, atoms in enumerate(several)]
    joint = System.join(systems, 3.0)
    again = System.join([System.join(systems[:2], 3.0), *systems[2:]], 3.0)
    assert joint.nsystems == len(several) and joint.natoms == sum(map(len, several))
    assert joint.charge_t.tolist() == [0, 1, 2, 3, 4]
    for t, (atoms, rows) in enumerate(zip(several, joint.slices, strict=True)):
        assert joint.number_a[rows].tolist() == atoms.numbers.tolist()
        np.testing.assert_array_equal(joint.position_av[rows], atoms.positions)
        np.testing.assert_array_equal(joint.cell_tcv[t], atoms.cell.array)
        edges = [
            (a - rows.start, b - rows.start, *v) for a, b, *v in edges_of(joint, 3.0) if rows.start <= a < rows.stop
        ]
        assert edges == edges_of(systems[t], 3.0)
    for name in 'number_a', 'system_a', 'neighbor_ak', 'vector_akv', 'magmom_a', 'charge_t':
        assert torch.equal(getattr(joint, name), getattr(again, name)), name
    assert joint.is_spin_polarized and not systems[0].is_spin_polarized
    with pytest.raises(ValueError, match='no systems to join'):
        System.join([], 3.0)


def test_precision_of_positions_stays():
    system = built(box(), 3.0).to(dtype=torch.float32)
    assert system.position_av.dtype == system.cell_tcv.dtype == torch.float64
    assert system.vector_akv.dtype == system.charge_t.dtype == system.magmom_a.dtype == torch.float32
    assert system.number_a.dtype == system.neighbor_ak.dtype == torch.int64


def test_sorted_by_species():
    atoms = box()
    system = built(atoms, 5.0)
    ordered = SortedSystem.of(system, (1, 6, 8))
    numbers_a = system.number_a[ordered.order_a]
    assert numbers_a.tolist() == sorted(atoms.numbers.tolist())
    assert [rows.stop - rows.start for rows in ordered.slices] == [6, 0, 3]
    assert torch.equal(system.number_a, numbers_a[ordered.back_a])
    assert torch.equal(torch.tensor([1, 6, 8])[ordered.species_ak], numbers_a[ordered.neighbor_ak])
    assert torch.equal(ordered.order_a[ordered.neighbor_ak], system.neighbor_ak[ordered.order_a])


def test_unknown_species():
    with pytest.raises(ValueError, match=r'\[6\] are not among \[1, 8\]'):
        SortedSystem.of(built(Atoms('CH', np.eye(3)[:2], cell=[5] * 3), 3.0), (1, 8))
