"""Finished calculations become a data set."""

import shutil

import numpy as np
import pytest
from gpaw import KohnShamConvergenceError
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import Dataset, SeededGPAW
from ase_deepdensity.cli.main import main
from ase_deepdensity.generate.gpw import import_gpw
from tests.conftest import FAST, water_molecule


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
    assert lines[-1] == '2 imported, 0 there already, 5 refused'
    refused = {line.split('/')[-1].split('.gpw')[0]: line for line in lines[:-2]}
    assert 'other' in refused and 'is at another level of theory than the data set' in refused['other']
    assert 'LDA' in refused['other'] and 'PBE' in refused['other']
    assert 'has not converged' in refused['failed'] and 'no such file' in refused['missing']
    assert 'holds no forces' in refused['noforces'] and 'is not a file of GPAW' in refused['text']
    dataset = Dataset(out)
    assert [file.name[:6] for file in dataset.files] == ['00000-', '00001-'] and dataset.level.parameters['h'] == 0.3
    calc = GPAW(files / 'b.gpw', txt=None)
    assert dataset[1].energy == pytest.approx(calc.results['energy']) and dataset[1].info['source'].endswith('b.gpw')
    assert dataset[1].forces == pytest.approx(calc.results['forces'])


def test_import_goes_on_where_it_stopped(files, tmp_path, monkeypatch):
    first = import_gpw([files / 'a.gpw'], tmp_path, progress=False)
    before = first.done[0].stat().st_mtime_ns
    shutil.copy(files / 'a.gpw', tmp_path / 'copy.gpw')
    second = import_gpw([files / 'b.gpw', tmp_path / 'copy.gpw'], tmp_path, progress=False)
    assert [path.name[:5] for path in second.done] == ['00001'] and second.there == first.done
    assert first.done[0].stat().st_mtime_ns == before
    third = import_gpw([files / 'other.gpw'], tmp_path, progress=False, log=lambda text: None)
    assert 'another level of theory' in next(iter(third.refused.values())) and len(Dataset(tmp_path)) == 2


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
