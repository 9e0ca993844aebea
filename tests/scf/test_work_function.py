"""Potentials across slabs and work functions against GPAW's dipole correction."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc100
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DeepDensity
from ase_deepdensity.analysis.slab import slab_potential
from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset.density_file import write_density
from ase_deepdensity.scf.work_function import work_functions
from ase_deepdensity.state import PAWDensity


def with_dipole_layer(atoms: Atoms, **parameters):
    atoms.calc = GPAW(xc='PBE', txt=None, poissonsolver={'dipolelayer': 'xy'}, **parameters)
    atoms.get_potential_energy()
    return atoms.calc


@pytest.fixture(scope='module')
def layer_calc():
    """Hydrogen fluoride side by side, zero boundaries above and below."""
    atoms = Atoms('HF', [[1.5, 1.5, 0.93], [1.5, 1.5, 0]], cell=[3, 3, 8], pbc=(True, True, False))
    atoms.center(axis=2)
    return with_dipole_layer(atoms, mode='lcao', basis='szp(dzp)', h=0.3)


@pytest.fixture(scope='module')
def slab_calc():
    """Aluminium with hydrogen on one side."""
    atoms = fcc100('Al', (1, 1, 1))
    add_adsorbate(atoms, 'H', 1.2, 'hollow')
    atoms.center(vacuum=5, axis=2)
    atoms.pbc = (True, True, False)
    return with_dipole_layer(atoms, mode={'name': 'pw', 'ecut': 200}, kpts=(2, 2, 1))


def inner(v_i: np.ndarray) -> np.ndarray:
    """Without the layer at each end where GPAW's correction falls."""
    return v_i[6:-6]


def test_potential_of_a_polar_layer(layer_calc):
    potential = slab_potential(PAWDensity.from_gpaw(layer_calc))
    gpaws_i = layer_calc.get_electrostatic_potential().mean(axis=(0, 1))
    assert inner(potential.v_i) == pytest.approx(inner(gpaws_i), abs=3e-3)
    below, above = potential.vacuum_levels
    assert abs(above - below) > 2 and potential.dipole == pytest.approx(layer_calc.get_dipole_moment()[2], abs=1e-5)


def test_work_functions_of_a_metal(slab_calc):
    """GPAW's vacuum levels at 1.5 Å from the ends, where they are flat but for what its moment leaves of the field."""
    state = PAWDensity.from_gpaw(slab_calc)
    found = work_functions(state)
    v_i = slab_calc.get_electrostatic_potential().mean(axis=(0, 1))
    fermi_level = slab_calc.get_fermi_level()
    point = round(1.5 * len(v_i) / slab_calc.atoms.cell[2, 2])
    assert found.fermi_level == pytest.approx(fermi_level, abs=0.01)
    assert found.below == pytest.approx(v_i[point] - fermi_level, abs=0.02)
    assert found.above == pytest.approx(v_i[-point] - fermi_level, abs=0.02)
    assert abs(found.below - found.above) > 0.1 and 3 < found.above < 6
    assert np.ptp(found.potential.v_i[:point]) < 5e-3 and np.ptp(found.potential.v_i[-point:]) < 5e-3


def test_command_line(slab_calc, tmp_path, capsys):
    path, out = str(tmp_path / 'slab.h5'), str(tmp_path / 'slab.json')
    write_density(path, PAWDensity.from_gpaw(slab_calc))
    assert main(['analyse', path, 'slab', 'workfunction', '--json', out]) == 0
    (row,) = json.loads((tmp_path / 'slab.json').read_text())
    assert row['workfunction']['above, eV'] == pytest.approx(
        row['slab']['vacuum level above, eV'] - row['workfunction']['Fermi level, eV']
    )
    text = capsys.readouterr().out
    assert 'slab: vacuum level above, eV' in text and 'plane averages' not in text


def test_what_is_no_slab(skewed_calc, molecule_state, layer_calc):
    with pytest.raises(ValueError, match=r'periodic along two lattice vectors.*has pbc \[True, True, True\]'):
        slab_potential(PAWDensity.from_gpaw(skewed_calc))
    with pytest.raises(ValueError, match=r'pbc \[False, False, False\]'):
        molecule_state.slab_potential()
    state = PAWDensity.from_gpaw(layer_calc)
    with pytest.raises(ValueError, match=r'a charged slab has no vacuum level; the charge is \+1'):
        slab_potential(state.new(charge=1.0))


def test_slab_at_the_end_of_its_cell(slab_calc):
    state = PAWDensity.from_gpaw(slab_calc)
    half = len(state.nt_sR[0, 0, 0]) // 2
    atoms = state.atoms.copy()
    atoms.positions[:, 2] += half * state.grid.step_cv[2, 2]
    moved = state.new(atoms=atoms, nt_sR=np.roll(state.nt_sR, half, axis=3))
    with pytest.raises(ValueError, match=r'vacuum at both ends of the cell: atoms.center\(vacuum=5, axis=2\)'):
        slab_potential(moved)


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_on_the_calculator(tiny_model, water):
    water.calc = DeepDensity(tiny_model, extrapolate=True)
    v_R = water.calc.get_electrostatic_potential()
    assert v_R == pytest.approx(water.calc.predict().electrostatic_potential(), rel=1e-12)
    assert v_R.shape == tuple(2 * water.calc.get_number_of_grid_points())
