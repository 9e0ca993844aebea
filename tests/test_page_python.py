"""The Python of docs/howto.md runs as it stands there, block after block, with the atoms that each speaks of."""

import re

import matplotlib.pyplot as plt
import pytest
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.io import read
from ase.md.verlet import VelocityVerlet

from ase_deepdensity import DeepDensity
from ase_deepdensity.cli.main import main
from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator
from ase_deepdensity.dataset.files import write_snapshot
from tests.conftest import FAST, _run, water_molecule
from tests.pages import ROOT

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def two_waters():
    atoms = read(ROOT / 'docs' / 'benchmarks' / 'geometries' / 'water2.xyz')
    atoms.center(vacuum=2.5)
    return atoms


def of_dynamics(names):
    names['dynamics'] = VelocityVerlet(two_waters(), timestep=0.1)
    names['dynamics'].atoms.calc = EMT()


def of_zarr(names):
    names['atoms'].write('water2.xyz')
    assert main(['predict', 'water2.xyz', 'water-pbe-dzp', '--out', 'n.zarr']) == 0


def of_two_molecules(names):
    names['density'], names['other'] = names['calc'].predict([two_waters()[:3], two_waters()[3:]])


def of_a_slab(names):
    atoms = fcc111('Al', (1, 1, 3), vacuum=5)
    names['density'] = DeepDensity('general-pbe-pw400').predict(atoms)


def of_water(names):
    names['atoms'] = two_waters()


def of_a_metal(names):
    names['atoms'] = bulk('Al')
    names['density'] = DeepDensity('aluminium-pbe-pw400').predict(names['atoms'])


def of_gpaw(names, folder):
    calc = names['calc'] = _run(water_molecule(), **FAST)
    (folder / 'data').mkdir()
    write_snapshot(folder / 'data' / '00000.h5', snapshot_from_calculator(calc, niter=1, seconds=1.0))
    calc.write('water.gpw')


def test_howto(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'howto.md').read_text(), re.DOTALL)
    names = {'atoms': two_waters()}
    before = {
        'dynamics.attach': of_dynamics,
        'open_zarr': of_zarr,
        'density.overlap(other)': of_two_molecules,
        'slab_potential': of_a_slab,
        'SeededGPAW': of_water,
        "OnePassGPAW('aluminium-pbe-pw400')": of_a_metal,
        'PAWDensity.from_gpaw': lambda names: of_gpaw(names, tmp_path),
    }
    needed = set(before)
    for block in blocks:
        for words in [words for words in before if words in block]:
            before[words](names)
            needed.discard(words)
        try:
            exec(block, names)
        except Exception as error:
            pytest.fail(f'{block}\n{error!r}')
    plt.close('all')
    assert not needed, f'no block has {needed}'
    assert names['atoms'].get_potential_energy() < 0 and names['snapshot'].energy < 0
    assert (tmp_path / 'bonding.html').stat().st_size > 1000 and (tmp_path / 'bands.json').is_file()
    assert names['nt_sR'].shape == names['predictor'].predict(two_waters()).nt_sR.shape
