"""Orbitals of a density that stays, against those of GPAW at the same density."""

import json
import re

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.dft.stm import STM
from ase.io import write
from ase.io.jsonio import read_json

from ase_deepdensity import OnePassGPAW
from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset.density_file import write_density
from ase_deepdensity.scf.orbitals import band_structure, density_of_states, orbitals_of
from ase_deepdensity.state import PAWDensity
from tests.conftest import water_molecule

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
SAME_EIGENVALUE = 2e-3
"""eV; of orbitals that were converged to GPAW's default from different starts."""


@pytest.fixture(scope='module')
def metal_orbitals(metal_calc):
    return orbitals_of(PAWDensity.from_gpaw(metal_calc))


def test_bands_of_a_metal(metal_calc, metal_orbitals):
    """The density is GPAW's, and so are the bands."""
    ours, gpaws = (band_structure(calc, 'GXW', 7, empty=2) for calc in (metal_orbitals, metal_calc))
    assert ours.energies.shape == (1, 7, 4) and ours.path.path == 'GXW'
    assert ours.energies == pytest.approx(gpaws.energies, abs=SAME_EIGENVALUE)
    assert ours.reference == pytest.approx(metal_calc.get_fermi_level(), abs=SAME_EIGENVALUE)
    assert np.ptp(ours.energies[0, :, 0]) > 3


def test_density_of_states(metal_calc, metal_orbitals):
    energies = np.linspace(-15, 15, 301)
    dos = density_of_states(metal_orbitals, energies, width=0.5)
    gpaws = density_of_states(metal_calc, energies, width=0.5)
    assert dos == pytest.approx(gpaws, abs=0.02 * gpaws.max())
    assert dos.sum() * 0.1 == pytest.approx(2 * metal_orbitals.get_number_of_bands(), rel=0.3)


def test_stm_of_a_density(molecule_calc, molecule_state):
    """ASE's microscope asks the calculator for eigenvalues and orbitals."""
    heights = []
    for calc in molecule_calc, orbitals_of(molecule_state):
        atoms = molecule_state.atoms.copy()
        atoms.calc = calc
        stm = STM(atoms)
        current = stm.get_averaged_current(-8.0, atoms.positions[:, 2].max() + 0.7)
        heights.append(stm.scan(-8.0, current)[2])
    assert heights[1] == pytest.approx(heights[0], abs=0.01) and np.ptp(heights[0]) > 1


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.DoubtfulPassWarning')
def test_one_pass_has_the_same_orbitals(tiny_model, small_water):
    atoms = small_water.copy()
    atoms.calc = OnePassGPAW(tiny_model, until={}, txt=None)
    atoms.get_potential_energy()
    eigenvalues = atoms.calc.fixed_density(txt=None).get_eigenvalues()
    assert orbitals_of(tiny_model, atoms).get_eigenvalues() == pytest.approx(eigenvalues, abs=1e-6)


def test_refused(molecule_state, metal_orbitals, molecule_calc, tiny_model):
    with pytest.raises(ValueError, match='bands need atoms that are periodic'):
        band_structure(molecule_calc)
    with pytest.raises(ValueError, match=r"no such path .*, 'GQ': there is no Q; its special points are G, "):
        band_structure(metal_orbitals, 'GQ')
    with pytest.raises(ValueError, match='needs atoms to predict a density of'):
        orbitals_of(tiny_model)
    with pytest.raises(ValueError, match='there are no orbitals of this density: '):
        orbitals_of(molecule_state.new(nt_sR=3 * molecule_state.nt_sR))


def test_command_line(metal_calc, tmp_path, capsys):
    density, bands, dos, picture = (str(tmp_path / name) for name in ('al.h5', 'bands.json', 'dos.json', 'bands.png'))
    write_density(density, PAWDensity.from_gpaw(metal_calc))
    path = ['--path', 'GX', '--npoints', '4']
    assert main(['bands', density, *path, '--out', bands, '--dos', dos, '--emin', '-15', '--kpts', '2', '2', '1']) == 0
    text = capsys.readouterr().out
    fermi = float(re.search(r'Fermi +(\S+) eV', text)[1])
    assert fermi == pytest.approx(metal_calc.get_fermi_level(), abs=SAME_EIGENVALUE) and 'gap        none' in text
    assert read_json(bands).energies.shape == (1, 4, 6)
    energies, states = json.loads((tmp_path / 'dos.json').read_text()).values()
    assert energies[0] == -15 and len(states) == len(energies)
    assert main(['bands', density, *path, '--out', picture]) == 0
    assert (tmp_path / 'bands.png').stat().st_size > 5000


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['water.xyz'], 'must be a density (FILE.h5, FILE.gpw), or a model must follow it'),
        (['a.h5', 'water-pbe-dzp'], 'a.h5 holds a density'),
        (['a.h5', '--out', 'bands.doc'], '--out bands.doc: use a name that ends in .png, .pdf, .svg or .json'),
        (['a.h5', '--emin', '6'], '--emin 6 must be below --emax 5'),
        (['frames.xyz', 'water-pbe-dzp'], 'holds 2 geometries; choose one, such as'),
    ],
)
def test_errors(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write('frames.xyz', [water_molecule()] * 2)
    assert main(['bands', *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('atoms', 'path', 'message'),
    [
        (bulk('Al'), 'GXQ', "this lattice, 'GXQ': there is no Q; its special points are G, K, L, U, W, X"),
        (bulk('Al', cubic=True), 'GXWKGL', "'GXWKGL': there is no W; its special points are G, M, R, X"),
        (bulk('Al'), 'gx', "'gx': there is no gx; its special points are"),
        (bulk('Al'), 'G', "at least two special points, of G, K, L, U, W, X; not 'G'"),
        (bulk('Al'), '', "not ''"),
        (molecule('H2O', vacuum=3.0), 'GX', 'H2O has pbc = False along all three'),
        (molecule('H2O', vacuum=3.0), None, 'bands need atoms that are periodic along at least one lattice vector'),
    ],
)
def test_a_wrong_path_is_refused_before_the_orbitals(atoms, path, message, tmp_path, monkeypatch, capsys):
    def never(*args, **keywords):
        raise AssertionError('orbitals were asked for')

    monkeypatch.setattr('ase_deepdensity.scf.orbitals.orbitals_of', never)
    write(tmp_path / 'atoms.traj', atoms)
    option = [] if path is None else ['--path', path]
    assert main(['bands', str(tmp_path / 'atoms.traj'), 'general-pbe-pw400', *option]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
