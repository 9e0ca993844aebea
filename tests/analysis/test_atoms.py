"""Charges, volumes and moments against GPAW's own routines, which its old interface has, and against geometry."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import Bohr
from gpaw.analyse.hirshfeld import HirshfeldPartitioning
from gpaw.analyse.multipole import Multipole
from gpaw.old.calculator import GPAW
from gpaw.utilities import unpack_density
from scipy.spatial import ConvexHull, Voronoi

from ase_deepdensity import DeepDensity
from ase_deepdensity.analysis.free_atoms import superposition_of_atoms
from ase_deepdensity.analysis.overlap import density_overlap
from ase_deepdensity.analysis.shares import nearest_sums
from ase_deepdensity.codes.gpaw.free_atoms import free_atoms
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity
from tests.conftest import water_molecule

PARAMETERS = {'mode': 'lcao', 'basis': 'szp(dzp)', 'h': 0.25, 'xc': 'PBE'}


@pytest.fixture(scope='module')
def old_calc():
    atoms = water_molecule(3.3)
    atoms.calc = GPAW(txt=None, **PARAMETERS)
    atoms.get_potential_energy()
    return atoms.calc


@pytest.fixture(scope='module')
def old_state(old_calc) -> PAWDensity:
    """The same ñ and D."""
    density, atoms = old_calc.density, old_calc.get_atoms()
    D_asii = [np.array([unpack_density(D_p) for D_p in density.D_asp[a]]) for a in range(len(atoms))]
    grid = Grid.from_atoms(atoms, old_calc.wfs.gd.N_c)
    return PAWDensity(atoms, grid, density.nt_sG / Bohr**3, D_asii, Level(PARAMETERS))


def test_hirshfeld_charges_and_volumes(old_calc, old_state):
    """GPAW's charges do not quite add up to zero: it scales each atom alone, and all of them together."""
    partitioning = HirshfeldPartitioning(old_calc)
    charge_a = old_state.hirshfeld_charges()
    assert charge_a == pytest.approx(np.array(partitioning.get_charges()), abs=3e-3)
    assert charge_a[0] < -0.25 and charge_a.sum() == pytest.approx(0, abs=1e-6)
    assert old_state.volume_ratios() == pytest.approx(partitioning.get_effective_volume_ratios(), abs=2e-3)


def test_moments(old_calc, old_state):
    centre_v = np.array([3.0, 3.5, 4.0])
    xy, yz, zz, xz, xx_yy = Multipole(centre_v, old_calc, 2).expand(-old_calc.density.rhot_g)[4:]
    found = old_state.multipole_moments(centre_v)
    assert found.quadrupole_vv[[0, 1, 0], [1, 2, 2]] == pytest.approx(np.sqrt(3) / 2 * np.array([xy, yz, xz]), abs=1e-3)
    assert found.quadrupole_vv[2, 2] == pytest.approx(zz, abs=1e-3) and abs(zz) > 0.05
    assert found.quadrupole_vv[0, 0] - found.quadrupole_vv[1, 1] == pytest.approx(np.sqrt(3) * xx_yy, abs=1e-3)
    assert np.trace(found.quadrupole_vv) == pytest.approx(0, abs=1e-9)
    assert found.dipole_v == pytest.approx(old_calc.get_dipole_moment(), abs=1e-4)


def test_moments_of_every_calculation(state):
    """The dipole moment of a neutral cell is that of the state, wherever the centre is."""
    for centre in None, (1.0, 2.0, 3.0):
        found = state.multipole_moments(centre)
        assert found.dipole_v == pytest.approx(state.dipole_moment(), abs=1e-5)
    with pytest.raises(ValueError, match=r'three finite coordinates in Å, not \(1, 2\)'):
        state.multipole_moments((1, 2))


def test_charges_of_every_calculation(state):
    """They add up to zero, and atoms that are alike are neutral; the grid of the compact ones is coarse."""
    for charge_a in state.hirshfeld_charges(), state.voronoi_charges(), state.voronoi_charges(deformation=True):
        assert charge_a.sum() == pytest.approx(0, abs=1e-6 * state.atoms.numbers.sum())
        assert len(set(state.atoms.numbers)) > 1 or abs(charge_a).max() < 1e-6


def test_deformation_in_water(molecule_state):
    """Oxygen draws electrons; the hydrogen atoms are alike, though the grid sees them from different sides."""
    O, H, other_H = molecule_state.voronoi_charges(deformation=True)
    assert -0.4 < O < -0.2 and pytest.approx(other_H, abs=0.01) == H


def test_a_superposition_has_no_charges(molecule_state):
    """Its shares are its atoms; the difference is what cusps leave on a grid, and cells as LCAO confines them."""
    atoms_state = superposition_of_atoms(molecule_state)
    assert atoms_state.number_of_electrons() == pytest.approx(8, abs=1e-9)
    assert abs(atoms_state.hirshfeld_charges()).max() < 0.01
    assert abs(atoms_state.voronoi_charges(deformation=True)).max() < 1e-9


@pytest.mark.parametrize('level', ['dzp', 'pw400'])
def test_free_atoms_hold_their_electrons(level):
    for number, atom in zip([1, 8, 13], free_atoms(Level.load(level), [1, 8, 13]), strict=True):
        assert atom.moment(0) == pytest.approx(number, abs=1e-3)
        assert atom(atom.cutoff + 0.1) == 0 and atom(0.0) > 1


def test_voronoi_cells_of_a_triclinic_crystal():
    """Of a uniform density: the volumes that qhull finds."""
    rng = np.random.default_rng(3)
    cell = np.array([[4.0, 0, 0], [1.5, 3.5, 0], [-1.0, 0.8, 5.0]])
    atoms = Atoms('H4', scaled_positions=rng.random((4, 3)), cell=cell, pbc=True)
    shift_sv = (np.array(list(np.ndindex(5, 5, 5))) - 2) @ cell
    diagram = Voronoi((shift_sv[:, np.newaxis] + atoms.positions).reshape(-1, 3))
    regions = [diagram.regions[region] for region in diagram.point_region[4 * 62 : 4 * 63]]
    volume_a = [ConvexHull(diagram.vertices[region]).volume for region in regions]
    assert sum(volume_a) == pytest.approx(atoms.get_volume())
    grid = Grid.from_atoms(atoms, (64, 64, 64))
    assert nearest_sums(grid, atoms, np.ones(grid.shape)) == pytest.approx(np.array(volume_a), rel=5e-3)


def test_points_between_atoms_are_shared():
    atoms = bulk('Po', 'sc', a=3.0).repeat((2, 2, 1))
    grid = Grid.from_atoms(atoms, (12, 12, 6))
    assert nearest_sums(grid, atoms, np.ones(grid.shape)) == pytest.approx(np.full(4, 27.0), rel=1e-12)


def test_overlap_of_two_molecules(molecule_state):
    """Nearer molecules overlap more, and grids do not matter; the same nuclei are refused."""
    near, far = (shifted(molecule_state, steps) for steps in (6, 9))
    assert density_overlap(molecule_state, near) > 5 * density_overlap(molecule_state, far) > 0
    finer = density_overlap(molecule_state, near, gridrefinement=4)
    assert density_overlap(molecule_state, near) == pytest.approx(finer, rel=0.02)
    assert molecule_state.similarity(molecule_state) == pytest.approx(1)
    assert 0 < molecule_state.similarity(near) < 0.6
    with pytest.raises(ValueError, match=r'atom 0 \(O\) of one density is 0.00 Å from atom 0 \(O\) of the other'):
        molecule_state.overlap(molecule_state)
    with pytest.raises(ValueError, match='overlaps with another PAWDensity, not with None'):
        molecule_state.overlap(None)
    coarse = molecule_state.new(grid=molecule_state.grid.new(size_c=(4, 4, 4)), nt_sR=np.ones((1, 3, 3, 3)))
    with pytest.raises(ValueError, match='differ in size_c'):
        molecule_state.overlap(coarse)


def shifted(state: PAWDensity, steps: int) -> PAWDensity:
    """In a cell that is longer along x, moved there by steps of the grid; then compared in the cell of the first."""
    atoms = state.atoms.copy()
    atoms.positions[:, 0] += steps * state.grid.step_cv[0, 0]
    nt_sR = np.zeros_like(state.nt_sR)
    nt_sR[:, steps:] = state.nt_sR[:, :-steps]
    return state.new(atoms=atoms, nt_sR=nt_sR)


def test_refinements(molecule_state):
    with pytest.raises(ValueError, match='gridrefinement must be one of 1, 2, 4, 8, not 3'):
        molecule_state.hirshfeld_charges(gridrefinement=3)


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_on_the_calculator(tiny_model):
    atoms = water_molecule()
    atoms.calc = DeepDensity(tiny_model, h=0.25, extrapolate=True)
    charge_a = atoms.get_charges()
    assert charge_a == pytest.approx(atoms.calc.predict().hirshfeld_charges())
    assert atoms.get_dipole_moment() == pytest.approx(atoms.calc.predict().dipole_moment())


def test_dispersion_of_tkatchenko_and_scheffler(old_calc, old_state):
    """ASE's correction takes the volumes as they are."""
    from ase.calculators.vdwcorrection import vdWTkatchenko09prl
    from gpaw.analyse.vdwradii import vdWradii

    atoms = old_calc.get_atoms()
    radii = vdWradii(atoms.get_chemical_symbols(), 'PBE', world=old_calc.world)
    energies = []
    for hirshfeld in HirshfeldPartitioning(old_calc), old_state.volume_ratios().tolist():
        atoms.calc = vdWTkatchenko09prl(hirshfeld, radii, calculator=old_calc)
        energies.append(atoms.get_potential_energy() - old_calc.get_potential_energy())
    assert energies[1] == pytest.approx(energies[0], rel=5e-3) and energies[0] < 0
