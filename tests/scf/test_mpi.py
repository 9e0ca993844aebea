"""Under MPI: each rank predicts its own part, and the results are those of one process."""

from __future__ import annotations

import json
from math import prod

import pytest
from gpaw.utilities import compiled_with_sl

from tests.mpi import needs_mpiexec, on_ranks

pytestmark = needs_mpiexec

SCRIPT = """
import json, sys, warnings
warnings.simplefilter('ignore')
from ase_deepdensity.codes.gpaw.mpi import enable_mpi
enable_mpi()
from gpaw.mpi import world
from ase_deepdensity import OnePassGPAW, SeededGPAW
from tests.tiny import water_box
model, parallel = sys.argv[1], json.loads(sys.argv[2])
level = {'mode': 'lcao', 'basis': 'dzp', 'h': 0.2, 'xc': 'PBE', 'kpts': (3, 1, 1), 'parallel': parallel}
atoms = water_box((1, 1, 1), seed=3)
figures = []
for cls in SeededGPAW, OnePassGPAW:
    more = {} if cls is SeededGPAW else {'until': {}}
    atoms.calc = cls(model, txt=None, **level, **more)
    for step in range(2):
        figures += [atoms.get_potential_energy(), atoms.calc.get_number_of_iterations(), atoms.get_forces().tolist()]
        figures.append((atoms.calc.seed_report if cls is SeededGPAW else atoms.calc.report).residual)
        atoms.rattle(0.01, seed=step)
if world.rank == 0:
    print(json.dumps([world.size, *figures]))
"""


def figures(ranks: int, model: str, parallel: dict[str, int], folder, script: str = SCRIPT) -> list:
    """What the script prints on so many ranks."""
    (folder / 'script.py').write_text(script)
    result = on_ranks(ranks, ['script.py', model, json.dumps(parallel)], folder)
    assert result.returncode == 0, result.stderr
    size, *rest = json.loads(result.stdout.splitlines()[-1])
    assert size == ranks
    return rest


@pytest.fixture(scope='module')
def serial(tiny_file, tmp_path_factory):
    return figures(1, str(tiny_file), {}, tmp_path_factory.mktemp('serial'))


@pytest.mark.parametrize('parallel', [{'domain': 2}, {'kpt': 2}, {'domain': 2, 'kpt': 2}, {'band': 2}])
def test_same_as_in_serial(parallel, serial, tiny_file, tmp_path):
    if 'band' in parallel and not compiled_with_sl():
        pytest.skip('GPAW spreads bands only with ScaLAPACK')
    ranks = prod(parallel.values())
    found = figures(ranks, str(tiny_file), parallel, tmp_path)
    for mine, theirs in zip(found, serial, strict=True):
        if isinstance(mine, list):
            for force_v, serial_v in zip(mine, theirs, strict=True):
                assert force_v == pytest.approx(serial_v, abs=1e-3)
        else:
            assert mine == pytest.approx(theirs, rel=1e-5)


REFUSED = """
import json, sys, warnings
warnings.simplefilter('ignore')
from ase_deepdensity.codes.gpaw.mpi import enable_mpi
enable_mpi()
import numpy as np
from ase.build import bulk
from gpaw.mpi import world
from gpaw.new.ase_interface import GPAW
from ase_deepdensity import PAWDensity, SeededGPAW
from ase_deepdensity.scf.seed import StateSeed
from tests.tiny import water_box

class OnOneRank(StateSeed):
    def evaluate(self, atoms, grid):
        if world.rank == world.size - 1:
            raise ValueError(f'rank {world.rank}')
        return super().evaluate(atoms, grid)

class Noisy(StateSeed):
    def evaluate(self, atoms, grid):
        nt_sR, D_asii = super().evaluate(atoms, grid)
        return nt_sR, [(1.3 if 'domain' in parallel else 2) * D_sii for D_sii in D_asii]

_, parallel = sys.argv[1], json.loads(sys.argv[2])
if 'domain' in parallel:
    level = {'mode': 'lcao', 'basis': 'dzp', 'h': 0.25, 'xc': 'PBE'}
    atoms = water_box((1, 1, 1), seed=3)
else:
    level = {'mode': {'name': 'pw', 'ecut': 200}, 'xc': 'PBE', 'kpts': (2, 2, 1)}
    atoms = bulk('Al')
own = GPAW(txt=None, parallel=parallel, **level)
figures = [own.get_potential_energy(atoms), own.get_number_of_iterations()]
state = PAWDensity.from_gpaw(own)
for seed in OnOneRank(state), Noisy(state):
    calc = SeededGPAW(seed, txt=None, parallel=parallel, **level)
    figures += [calc.get_potential_energy(atoms), calc.get_number_of_iterations()]
    figures += [calc.seed_report.accepted, calc.seed_report.held, calc.seed_report.reason]
if world.rank == 0:
    print(json.dumps([world.size, *figures]))
"""


@pytest.mark.parametrize('parallel', [{'domain': 2}, {'kpt': 2}])
def test_refused_on_all_ranks(parallel, tmp_path):
    """An error on one rank only is GPAW's own start on all; so are density matrices that a step shows to be bad."""
    energy, niter, *both = figures(2, '', parallel, tmp_path, REFUSED)
    for seeded, more, accepted, held, reason in (both[:5], both[5:]):
        assert not accepted
        assert seeded == pytest.approx(energy, abs=1e-8)
        assert more == niter + held
        assert reason == 'ValueError: rank 1' if held == 0 else reason.startswith('residual')
    assert (both[3], both[8]) == (0, 1)
