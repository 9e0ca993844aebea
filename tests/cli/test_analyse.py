"""``deepdensity analyse``."""

import json

import pytest
from ase.io import write

from ase_deepdensity.analysis.figures import OF_ATOMS, OF_THE_WHOLE
from ase_deepdensity.cli.analyse import QUANTITIES
from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset.density_file import write_density
from ase_deepdensity.state import PAWDensity
from tests.conftest import water_molecule


@pytest.fixture
def file(molecule_state, tmp_path):
    path = tmp_path / 'water.h5'
    write_density(path, molecule_state)
    return str(path)


def test_figures_of_a_density(file, molecule_state, tmp_path, capsys):
    out = str(tmp_path / 'figures.json')
    assert main(['analyse', file, 'hirshfeld', 'vdd', 'volumes', 'multipoles', '--json', out]) == 0
    (row,) = json.loads((tmp_path / 'figures.json').read_text())
    assert row['hirshfeld'] == pytest.approx(molecule_state.hirshfeld_charges(), abs=1e-6)
    assert row['multipoles']['dipole, e·Å'] == pytest.approx(molecule_state.dipole_moment(), abs=1e-6)
    text = capsys.readouterr().out
    assert f'     0 O {row["hirshfeld"][0]:12.4f}{row["vdd"][0]:12.4f}{row["volumes"][0]:12.4f}' in text
    assert 'quadrupole, e·Å²  ((' in text and 'figures.json' in text


def test_names():
    assert QUANTITIES.keys() == {*OF_ATOMS, *OF_THE_WHOLE, 'overlap', 'workfunction'}


def test_overlap(file, capsys):
    assert main(['analyse', file, 'overlap', '--other', file]) == 0
    assert 'overlap: similarity of ñ  1.0000' in capsys.readouterr().out


def test_overlap_with_the_same_atoms_a_little_moved_is_their_similarity(molecule_state, tmp_path, capsys):
    moved = molecule_state.atoms.copy()
    moved.positions += 0.01
    names = [str(tmp_path / name) for name in ('a.h5', 'b.h5')]
    write_density(names[0], molecule_state)
    write_density(names[1], molecule_state.new(atoms=moved))
    assert main(['analyse', names[0], 'overlap', '--other', names[1]]) == 0
    out = capsys.readouterr().out
    assert 'overlap: similarity of ñ' in out and 'electrons²' not in out


def test_potential_across_a_slab(slab_calc, tmp_path, capsys):
    slab, picture = str(tmp_path / 'slab.h5'), str(tmp_path / 'slab.png')
    write_density(slab, PAWDensity.from_gpaw(slab_calc))
    assert main(['analyse', slab, 'slab', 'workfunction', '--plot', picture]) == 0
    assert f'wrote {picture}' in capsys.readouterr().out and (tmp_path / 'slab.png').stat().st_size > 10_000
    assert main(['analyse', slab, 'hirshfeld', '--plot', picture]) == 2
    assert '--plot shows the potential across a slab' in capsys.readouterr().err


def test_gpaw_file(molecule_calc, molecule_state, tmp_path, capsys):
    path = tmp_path / 'water.gpw'
    molecule_calc.write(path)
    assert main(['analyse', str(path), 'hirshfeld', '--refinement', '1']) == 0
    assert f'{molecule_state.hirshfeld_charges(gridrefinement=1)[0]:.4f}' in capsys.readouterr().out


def test_predicted_densities(tiny_file, tmp_path, capsys):
    path = str(tmp_path / 'water.xyz')
    write(path, [water_molecule(1.5), water_molecule(1.6)])
    assert main(['analyse', path, str(tiny_file), 'hirshfeld', '--refinement', '1', '--extrapolate']) == 0
    assert capsys.readouterr().out.count('H2O\n') == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['water.xyz', 'hirshfeld'], 'geometries need a model, and at least one quantity after it: hirshfeld, '),
        (['water.xyz', 'model'], 'geometries need a model, and at least one quantity'),
        (['FILE', 'hirshfield'], 'the quantity must be one of hirshfeld, .* did you mean hirshfeld'),
        (['FILE', 'overlap'], 'overlap, and nothing else, needs another density'),
        (['FILE', 'voronoi', '--other', 'FILE'], 'overlap, and nothing else, needs another density'),
        (['FILE', 'voronoi', '--refinement', '0'], '--refinement must be a whole number from 1 to 16, not 0'),
        (['missing.h5', 'voronoi'], 'missing.h5: no such file'),
        (['water.xyz', 'no-model', 'voronoi'], 'no-model'),
    ],
)
def test_errors(arguments, message, file, capsys):
    import re

    assert main(['analyse', *(file if word == 'FILE' else word for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and len(error.splitlines()) == 1
