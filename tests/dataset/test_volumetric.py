import numpy as np
import pytest
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


def test_failed_write_leaves_the_old_file(molecule_state, tmp_path):
    path = tmp_path / 'a.cube'
    path.write_text('old')

    def slabs():
        yield np.ones((2, 3, 3))
        raise RuntimeError('the second slab fails')

    with pytest.raises(RuntimeError, match='second slab'):
        write_cube_slabs(path, molecule_state.atoms, (4, 3, 3), slabs())
    assert path.read_text() == 'old' and len(list(tmp_path.iterdir())) == 1
