"""Data sets bring their atom types: what is done with them needs no GPAW."""

import json
import shutil

import numpy as np
import pytest

from ase_deepdensity.dataset import read_snapshot, write_snapshot
from tests.codes.gpaw.test_require import run_without_gpaw
from tests.dataset.spoil import SHARED

USE = """
import numpy as np
from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.dataset import Dataset, read_snapshot, write_snapshot
from ase_deepdensity.dataset.density_file import read_density, write_density
from ase_deepdensity.dataset.volumetric import write_chgcar, write_cube

snapshot = read_snapshot('data/0.h5')
density = snapshot.density
print(density.number_of_electrons(), *dipole_moment(density), np.ptp(density.normalized().nt_sR / density.nt_sR))
write_snapshot('copy.h5', snapshot)
write_density('density.h5', density)
assert read_density('density.h5').number_of_electrons() == density.number_of_electrons()
write_cube('a.cube', density.atoms, density.nt_sR[0])
write_chgcar('CHGCAR', density.atoms, density.nt_sR[0])
dataset = Dataset('data')
print(*dataset.atom_types, dataset.charge)
"""

TRAIN = """
from ase_deepdensity.cli.main import main
assert main('train data --out model --steps 2 --quiet --config config.json'.split()) == 0
from ase_deepdensity import DensityModel
print(*DensityModel.load('model.safetensors').atom_types)
"""
HYPERS = {'cutoff': 3.0, 'lmax': 2, 'radial': 4, 'channels': 8, 'message_channels': 4, 'pseudo_channels': 4}
CONFIG = {'hypers': HYPERS, 'basis_functions': 4, 'lmax': 2, 'validation': 1}


@pytest.fixture
def folder(tmp_path):
    """Three times hydrogen fluoride, of this version."""
    (tmp_path / 'data').mkdir()
    snapshot = read_snapshot(SHARED / 'snapshot-2.h5')
    for i in range(3):
        write_snapshot(tmp_path / 'data' / f'{i}.h5', snapshot)
    return tmp_path


def test_a_density_is_used(folder):
    result = run_without_gpaw(USE, folder)
    assert result.returncode == 0, result.stderr
    (electrons, *dipole_v, deviation), about = (line.split() for line in result.stdout.splitlines())
    snapshot = read_snapshot(folder / 'data' / '0.h5')
    assert float(electrons) == pytest.approx(8, abs=1e-6) and abs(float(deviation)) < 1e-9
    assert np.array(dipole_v, float) == pytest.approx(snapshot.dipole, abs=1e-5)
    assert about == ['1', '9', '0.0']
    assert (folder / 'copy.h5').read_bytes() == (folder / 'data' / '0.h5').read_bytes()
    assert (folder / 'a.cube').stat().st_size > 5000 and (folder / 'CHGCAR').stat().st_size > 5000


def test_a_model_is_trained(folder):
    (folder / 'config.json').write_text(json.dumps(CONFIG))
    result = run_without_gpaw(TRAIN, folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == '1 9'


def test_old_data_need_gpaw(tmp_path):
    """They are read, but counting electrons asks the code of the level."""
    shutil.copy(SHARED / 'snapshot-2.h5', tmp_path / 'old.h5')
    code = """
from ase_deepdensity.dataset import read_snapshot
density = read_snapshot('old.h5').density
print(density.integral())
density.number_of_electrons()
"""
    result = run_without_gpaw(code, tmp_path)
    assert float(result.stdout) > 0
    assert 'MissingGPAWError: reading PAW datasets needs GPAW' in result.stderr and '[gpaw]' in result.stderr
