"""ASE's own ways: its formats, its database, vibrations with the forces of one calculator and the dipoles of ours."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.cli.main import main as ase
from ase.io import formats, read, write
from ase.vibrations import Infrared

from ase_deepdensity import DeepDensity, PAWDensity, ase_plugin
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.dataset import Snapshot
from ase_deepdensity.dataset.density_file import read_density, write_density
from ase_deepdensity.dataset.files import write_snapshot
from ase_deepdensity.with_dipoles import WithDipoles

ROOT = Path(__file__).parents[1]


@pytest.fixture
def registered():
    """The entry point of pyproject.toml, also where the installation is older than it."""
    declared = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['entry-points']['ase.ioformats']
    for name, value in declared.items():
        if name not in formats.ioformats:
            formats.define_external_io_format(EntryPoint(name, value, 'ase.ioformats'))


def test_files_are_one_of_ase_s_formats(registered, molecule_calc, tmp_path):
    density = PAWDensity.from_gpaw(molecule_calc)
    write_density(tmp_path / 'n.h5', density)
    forces_av = np.arange(9.0).reshape(3, 3)
    write_snapshot(tmp_path / 's.h5', Snapshot(density, -12.5, forces_av, density.dipole_moment(), 9, 1.5))
    for name in 'n.h5', 's.h5':
        atoms = read(tmp_path / name)
        assert atoms.positions == pytest.approx(density.atoms.positions)
        assert atoms.get_dipole_moment() == pytest.approx(density.dipole_moment())
    assert atoms.get_potential_energy() == -12.5 and atoms.get_forces() == pytest.approx(forces_av)
    write(tmp_path / 'rows.json', atoms)
    row = read(tmp_path / 'rows.json')
    assert row.get_potential_energy() == -12.5 and row.get_dipole_moment() == pytest.approx(density.dipole_moment())
    (tmp_path / 'x.h5').write_bytes(b'nothing of the kind')
    with pytest.raises(ValueError, match='x.h5'):
        read(tmp_path / 'x.h5')


def test_ase_writes_the_density_that_a_calculator_speaks_of(registered, molecule_calc, tiny_model, tmp_path):
    atoms = molecule_calc.dft.atoms.copy()
    for calc, density in (molecule_calc, PAWDensity.from_gpaw(molecule_calc)), (DeepDensity(tiny_model), None):
        atoms.calc = calc
        write(tmp_path / 'n.h5', atoms)
        found = read_density(tmp_path / 'n.h5')
        expected = calc.predict(atoms) if density is None else density
        assert found.nt_sR == pytest.approx(expected.nt_sR) and found.level == expected.level
    atoms.calc = None
    with pytest.raises(ValueError, match=r'n.h5: a density is known of .*, not with NoneType; "deepdensity predict'):
        write(tmp_path / 'n.h5', atoms)
    assert read_density(tmp_path / 'n.h5').level == tiny_model.level, 'what was there stays'


def test_commands_of_ase_take_our_files(registered, molecule_calc, tmp_path, monkeypatch, capsys):
    """``ase convert`` to a data base, ``ase db`` on its rows, and back to a geometry."""
    monkeypatch.chdir(tmp_path)
    density = PAWDensity.from_gpaw(molecule_calc)
    write_snapshot(Path('s.h5'), Snapshot(density, -12.5, None, density.dipole_moment(), 9, 1.5))
    ase(args=['convert', 's.h5', 'rows.db'])
    ase(args=['convert', 's.h5', 's.xyz'])
    assert read('s.xyz').positions == pytest.approx(density.atoms.positions)
    capsys.readouterr()
    ase(args=['db', 'rows.db', 'H=2', '-c', 'formula,energy,calculator,dipole'])
    row = capsys.readouterr().out
    assert 'H2O' in row and '-12.5' in row and 'deepdensity' in row
    ase(args=['convert', 'rows.db', 'rows.cif'])
    assert len(read('rows.cif')) == 3


def test_calculators_are_plugins_of_ase():
    """What ``ase info --plugins`` lists; the module is loaded as ASE does it."""
    plugins = pytest.importorskip('ase._4.plugins.plugin_collection')
    (entry,) = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['entry-points']['ase.plugins'].items()
    found = plugins.PluginCollection(EntryPoint(*entry, 'ase.plugins').load().__ase_plugins__)
    (plugin,) = found.calculators
    assert plugin.name == 'deepdensity' and plugin() is DeepDensity and plugin.citation.startswith('doi:')
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ase_plugin.nothing


def test_forces_of_a_potential_and_dipoles_of_ours_give_an_infrared_spectrum(tmp_path, monkeypatch):
    """Water's two stretches and its bend, the bend the strongest of them in the gas phase."""
    tblite = pytest.importorskip('tblite.ase')
    monkeypatch.chdir(tmp_path)
    water = molecule('H2O', vacuum=2.5)
    water.pbc = True
    potential = tblite.TBLite(method='GFN2-xTB', verbosity=0)
    water.calc = WithDipoles(potential, DeepDensity('water-pbe-dzp', gpts=(24, 28, 24)))
    assert np.linalg.norm(water.get_dipole_moment()) / 0.2082 == pytest.approx(1.8, abs=0.15)
    spectrum = Infrared(water, delta=0.02)
    spectrum.run()
    frequency_n, intensity_n = spectrum.get_frequencies().real[-3:], spectrum.intensities[-3:]
    assert 1300 < frequency_n[0] < 1800 and 3200 < frequency_n[1] < frequency_n[2] < 4200
    assert intensity_n[0] > 0.5 and intensity_n[0] > intensity_n[1]


@pytest.mark.parametrize('symbols', ['OH2X', 'X'])
def test_ghosts_are_refused_by_name(tiny_model, symbols):
    atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3), cell=[9, 9, 9], pbc=True)
    with pytest.raises((PredictionError, ValueError), match=r'a ghost \(X\)'):
        DeepDensity(tiny_model).predict(atoms)
