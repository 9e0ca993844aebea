import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from ase.io.cube import read_cube_data
from ase.units import Bohr

from ase_deepdensity.analysis.quantities import QUANTITIES
from ase_deepdensity.dataset.volumetric import read_cube, with_boundaries, write_chgcar, write_cube, write_cube_slabs


@pytest.mark.parametrize('quantity', QUANTITIES)
def test_cube_of_each_quantity(state, tmp_path, quantity):
    """ASE reads what is written, and its sum is the integral."""
    n_R = QUANTITIES[quantity][0](state)
    assert n_R.shape == tuple(state.grid.size_c), 'all points of the cell'
    write_cube(tmp_path / 'a.cube', state.atoms, n_R)
    data, atoms = read_cube_data(str(tmp_path / 'a.cube'))
    assert data == pytest.approx(n_R * Bohr**3, rel=1e-6)
    assert np.abs(atoms.cell.array - state.grid.cell_cv).max() < 1e-4
    copy, copy_R = read_cube(tmp_path / 'a.cube')
    assert copy_R == pytest.approx(n_R, rel=1e-6)
    assert np.abs(copy.positions - state.atoms.positions).max() < 1e-5
    total = {'pseudo': state.number_of_electrons(), 'all-electron': state.atoms.numbers.sum()}
    assert n_R.sum() * state.grid.dv == pytest.approx(total.get(quantity, state.integral()), rel=1e-6)


def test_slabs_make_the_same_file(state, tmp_path):
    n_R = QUANTITIES['smooth'][0](state)
    write_cube(tmp_path / 'whole.cube', state.atoms, n_R)
    first = int(state.grid.start_c[0])
    slabs = [
        with_boundaries(slab, state.nt_sR.sum(axis=0)[slab.start_c[0] - first : slab.stop_c[0] - first])
        for slab in state.grid.slabs(n_R.size // 5)
    ]
    assert len(slabs) > 3
    write_cube_slabs(tmp_path / 'slabs.cube', state.atoms, n_R.shape, slabs)
    assert (tmp_path / 'slabs.cube').read_bytes() == (tmp_path / 'whole.cube').read_bytes()


def test_chgcar(state, tmp_path):
    from ase.calculators.vasp import VaspChargeDensity

    n_R = QUANTITIES['pseudo'][0](state)
    write_chgcar(tmp_path / 'CHGCAR', state.atoms, n_R)
    chgcar = VaspChargeDensity(str(tmp_path / 'CHGCAR'))
    assert np.abs(chgcar.chg[0] - n_R).max() < 1e-8 * np.abs(n_R).max()
    assert chgcar.atoms[0].get_chemical_formula() == state.atoms.get_chemical_formula()
    assert chgcar.atoms[0].cell.array == pytest.approx(state.grid.cell_cv)


FAR = [(0, 0, 0), (-7000.123456, 1, 2), (60000.5, -99999.9, -529.2), (-529.17, 5291.8, 5291.7), (1e7, -1e7, 0.5)]
"""Å: also just where the usual columns of a cube file (bohr) are full."""


@pytest.mark.parametrize('length', [3.0, 60000.0])
def test_columns_stay_apart(tmp_path, length):
    """Wherever atoms are and however large the cell is."""
    from ase.build import sort
    from ase.calculators.vasp import VaspChargeDensity

    atoms = Atoms('OHHNC', FAR, cell=[[length, 0, 0], [-length, length, 0], [0, 0, -length]], pbc=True)
    n_R = np.random.default_rng(0).normal(size=(2, 1, 3))
    write_cube(tmp_path / 'a.cube', atoms, n_R)
    header = (tmp_path / 'a.cube').read_text().splitlines()[2 : 6 + len(atoms)]
    assert [len(line.split()) for line in header] == [4] * 4 + [5] * len(atoms)
    copy, copy_R = read_cube(tmp_path / 'a.cube')
    assert np.abs(copy.positions - atoms.positions).max() < 1e-6
    assert np.abs(copy.cell.array - atoms.cell.array).max() < 1e-5
    assert copy_R == pytest.approx(n_R, rel=1e-6)
    assert read(tmp_path / 'a.cube').numbers.tolist() == atoms.numbers.tolist()
    write_chgcar(tmp_path / 'CHGCAR', atoms, n_R)
    chgcar = VaspChargeDensity(str(tmp_path / 'CHGCAR'))
    assert np.abs(chgcar.atoms[0].positions - sort(atoms).positions).max() < 1e-6
    assert chgcar.chg[0] == pytest.approx(n_R, rel=1e-8)


def test_columns_are_the_usual_ones_where_these_suffice(molecule_state, tmp_path):
    write_cube(tmp_path / 'a.cube', molecule_state.atoms, np.ones((2, 3, 4)))
    ours = (tmp_path / 'a.cube').read_text().splitlines()[2:9]
    write(tmp_path / 'ase.cube', molecule_state.atoms, data=np.ones((2, 3, 4)))
    assert ours == (tmp_path / 'ase.cube').read_text().splitlines()[2:9]


def test_more_atoms_than_five_digits_can_count(tmp_path):
    natoms = 100001
    atoms = Atoms(numbers=np.ones(natoms, int), positions=np.linspace(0, 50, 3 * natoms).reshape(-1, 3), cell=[50] * 3)
    write_cube(tmp_path / 'a.cube', atoms, np.ones((1, 1, 2)))
    copy, copy_R = read_cube(tmp_path / 'a.cube')
    assert len(copy) == natoms and np.abs(copy.positions - atoms.positions).max() < 1e-6
    assert copy_R.shape == (1, 1, 2)


def test_failed_write_leaves_the_old_file(molecule_state, tmp_path):
    path = tmp_path / 'a.cube'
    path.write_text('old')

    def slabs():
        yield np.ones((2, 3, 3))
        raise RuntimeError('the second slab fails')

    with pytest.raises(RuntimeError, match='second slab'):
        write_cube_slabs(path, molecule_state.atoms, (4, 3, 3), slabs())
    assert path.read_text() == 'old' and len(list(tmp_path.iterdir())) == 1
