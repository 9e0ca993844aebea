"""Finished calculations become a data set."""

import shutil

import numpy as np
import pytest
from gpaw import KohnShamConvergenceError
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import Dataset, SeededGPAW
from ase_deepdensity.ase_plugin import read_deepdensity
from ase_deepdensity.cli.main import main
from ase_deepdensity.generate.gpw import import_gpw
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer
from tests.conftest import FAST, water_molecule
from tests.tiny import HYPERS


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Two that belong together, one of another level, one without forces, one that has not converged, and a text."""
    folder = tmp_path_factory.mktemp('gpw')
    for name, changes in ('a', {}), ('b', {}), ('other', {'xc': 'LDA'}), ('noforces', {}), ('failed', {'maxiter': 2}):
        atoms = water_molecule(1.7)
        atoms.rattle(0.03, seed=len(name))
        atoms.positions[0, 0] += 0.01 * (name == 'b')
        atoms.calc = GPAW(**FAST | changes, txt=None)
        if name == 'failed':
            with pytest.raises(KohnShamConvergenceError):
                atoms.get_potential_energy()
        else:
            atoms.get_potential_energy()
            if name != 'noforces':
                atoms.get_forces()
        atoms.calc.write(folder / f'{name}.gpw')
    (folder / 'text.gpw').write_text('nothing of the kind')
    return folder


def test_import(files, tmp_path, capsys):
    out = tmp_path / 'data'
    names = ['a', 'other', 'failed', 'b', 'text', 'missing', 'a', 'noforces']
    assert main(['import', *(str(files / f'{name}.gpw') for name in names), str(out), '--quiet']) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == '3 imported, 0 there already, 4 refused; 1 have no forces, which no training needs'
    refused = {line.split('/')[-1].split('.gpw')[0]: line for line in lines[:-2]}
    assert 'other' in refused and 'is at another level of theory than the data set' in refused['other']
    assert 'LDA' in refused['other'] and 'PBE' in refused['other']
    assert 'has not converged' in refused['failed'] and 'no such file' in refused['missing']
    assert refused['text'].endswith('text.gpw: is not a file of GPAW')
    dataset = Dataset(out)
    assert [file.name[:6] for file in dataset.files] == ['00000-', '00001-', '00002-']
    assert dataset.level.parameters['h'] == 0.3
    calc = GPAW(files / 'b.gpw', txt=None)
    assert dataset[1].energy == pytest.approx(calc.results['energy']) and dataset[1].info['source'].endswith('b.gpw')
    assert dataset[1].forces == pytest.approx(calc.results['forces'])
    assert dataset[2].forces is None and dataset[2].info['source'].endswith('noforces.gpw')
    assert read_deepdensity(dataset.files[2]).calc.results.keys() == {'energy', 'dipole'}


def test_training_needs_no_forces(files, tmp_path):
    out = tmp_path / 'data'
    import_gpw([files / 'noforces.gpw', files / 'a.gpw'], out, progress=False)
    config = TrainingConfig(
        hypers=HYPERS, basis_cutoff=2.5, basis_functions=4, lmax=2, steps=2, validate_every=1, validation=1
    )
    model = Trainer(Dataset(out), tmp_path / 'm.safetensors', config, progress=False).run()
    assert model.symbols == ['H', 'O']


def test_import_goes_on_where_it_stopped(files, tmp_path, monkeypatch):
    first = import_gpw([files / 'a.gpw'], tmp_path, progress=False)
    before = first.done[0].stat().st_mtime_ns
    shutil.copy(files / 'a.gpw', tmp_path / 'copy.gpw')
    second = import_gpw([files / 'b.gpw', tmp_path / 'copy.gpw'], tmp_path, progress=False)
    assert [path.name[:5] for path in second.done] == ['00001'] and second.there == first.done
    assert first.done[0].stat().st_mtime_ns == before
    third = import_gpw([files / 'other.gpw'], tmp_path, progress=False, log=lambda text: None)
    assert 'another level of theory' in next(iter(third.refused.values())) and len(Dataset(tmp_path)) == 2


@pytest.mark.parametrize('names', [['missing'], ['text', 'failed'], ['*.none']])
def test_an_import_of_nothing_leaves_no_folder(names, files, tmp_path, capsys):
    out = tmp_path / 'new' / 'data'
    assert main(['import', *(str(files / f'{name}.gpw') for name in names), str(out), '--quiet']) == 1
    assert f'0 imported, 0 there already, {len(names)} refused' in capsys.readouterr().out
    assert not out.parent.exists()


def test_patterns_are_taken_below_folders(files, tmp_path, capsys):
    for folder, name in ('', 'a'), ('x', 'b'), ('x/y', 'noforces'):
        (tmp_path / 'runs' / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(files / f'{name}.gpw', tmp_path / 'runs' / folder)
    assert main(['import', str(tmp_path / 'runs' / '**' / '*.gpw'), str(tmp_path / 'data'), '--quiet']) == 0
    assert len(Dataset(tmp_path / 'data')) == 3
    capsys.readouterr()
    assert main(['import', str(tmp_path / 'runs'), str(tmp_path / 'other'), '--quiet']) == 1
    assert 'runs: is a folder, not a file of GPAW' in capsys.readouterr().out


def test_wave_functions_make_no_difference(files, tmp_path):
    calc = GPAW(files / 'a.gpw', txt=None)
    atoms = calc.dft.atoms.copy()
    atoms.calc = GPAW(**FAST, txt=None)
    atoms.get_forces()
    atoms.calc.write(tmp_path / 'all.gpw', mode='all')
    assert (tmp_path / 'all.gpw').stat().st_size > (files / 'a.gpw').stat().st_size
    result = import_gpw([tmp_path / 'all.gpw', files / 'b.gpw'], tmp_path / 'data', progress=False)
    assert len(result.done) == 2 and not result.refused


def test_out_must_not_be_a_file(files, capsys):
    before = (files / 'b.gpw').read_bytes()
    assert main(['import', str(files / 'a.gpw'), str(files / 'b.gpw')]) == 2
    assert 'OUT must be a folder for the snapshots' in capsys.readouterr().err
    assert (files / 'b.gpw').read_bytes() == before


def test_a_calculation_starts_from_a_finished_one(files):
    """No iterations but those that see that nothing changes; the same energy."""
    reference = GPAW(files / 'a.gpw', txt=None)
    atoms = reference.dft.atoms.copy()
    atoms.calc = SeededGPAW(str(files / 'a.gpw'), txt=None)
    assert atoms.get_potential_energy() == pytest.approx(reference.results['energy'], abs=1e-4)
    assert atoms.calc.seed_report.accepted and atoms.calc.dft.scf_loop.niter <= 4
    assert np.abs(atoms.get_forces() - reference.results['forces']).max() < 0.02
