"""Ranks of MPI share the planes of one density."""

import numpy as np
import pytest
from ase.io import read, write

from ase_deepdensity.dataset.density_file import read_density
from ase_deepdensity.dataset.volumetric import read_cube
from ase_deepdensity.dataset.zarr_folder import read_zarr
from ase_deepdensity.grid import Grid
from ase_deepdensity.predict import Predictor
from ase_deepdensity.ranks import shared_out
from tests.mpi import needs_mpiexec, on_ranks
from tests.test_predict import lone_molecule
from tests.tiny import water_box
from tests.tolerances import FLOAT32

pytestmark = needs_mpiexec

SCRIPT = """
import resource, sys, warnings
import numpy as np
warnings.simplefilter('ignore')
from ase_deepdensity.cli.main import main
from ase_deepdensity import network_runner
from ase_deepdensity.codes.gpaw.mpi import enable_mpi
enable_mpi()
from gpaw.mpi import world

seen = []
in_blocks = network_runner.NetworkRunner._in_blocks
def counting(self, atoms, some_a, extrapolate):
    seen.append(len(some_a))
    return in_blocks(self, atoms, some_a, extrapolate)
network_runner.NetworkRunner._in_blocks = counting

def run(*arguments):
    code = main(['predict', *arguments])
    numbers = np.zeros(world.size)
    numbers[world.rank] = seen.pop() if seen else -1
    world.sum(numbers)
    if world.rank == 0:
        print('CODE', code, *numbers.astype(int), flush=True)
    return code

def full_disk_on(rank, size):
    if world.rank == rank:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

model = 'tiny.safetensors'
run('column.xyz', model, '--out', 'n.zarr')
run('column.xyz', model, '--stream', '--out', 'n.h5')
run('one.xyz', model, '--stream', '--quantity', 'smooth', '--out', 'n.cube')
run('column.xyz', model, '--out', 'n.h5')
run('column.xyz', model, '--out', 'thin.zarr', '--gpts', '1', '32', '32')
full_disk_on(1, 10_000)
run('column.xyz', model, '--out', 'full.zarr')
full_disk_on(0, 10_000)
run('column.xyz', model, '--stream', '--out', 'full.h5')
"""


@pytest.fixture(scope='module')
def outcome(tmp_path_factory, tiny_file):
    """A folder, and what two ranks say of it: output, errors."""
    folder = tmp_path_factory.mktemp('ranks')
    (folder / 'tiny.safetensors').write_bytes(tiny_file.read_bytes())
    write(folder / 'column.xyz', water_box((12, 1, 1), seed=11))
    write(folder / 'one.xyz', lone_molecule())
    (folder / 'script.py').write_text(SCRIPT)
    result = on_ranks(2, ['script.py'], folder, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout, result.stderr


def test_it_is_what_one_process_predicts(outcome, tiny_model):
    folder, output, _ = outcome
    alone = Predictor(tiny_model).predict(read(folder / 'column.xyz'))
    scale = FLOAT32 * float(alone.nt_sR.max())
    atoms, grid, data = read_zarr(folder / 'n.zarr')
    assert grid == alone.grid and atoms == alone.atoms
    np.testing.assert_allclose(data[:], alone.nt_sR, atol=scale)
    stored = read_density(folder / 'n.h5')
    np.testing.assert_allclose(stored.nt_sR, alone.nt_sR, atol=scale)
    for D_sii, alone_sii in zip(stored.D_asii, alone.D_asii, strict=True):
        np.testing.assert_allclose(D_sii, alone_sii, atol=FLOAT32 * 10)
    assert output.count('wrote      n.zarr') == 1, 'one rank speaks'


def test_zero_boundaries(outcome, tiny_model):
    """A molecule whose atoms one rank alone may have."""
    folder, _, _ = outcome
    alone = Predictor(tiny_model).predict(read(folder / 'one.xyz'))
    inside_R = read_cube(folder / 'n.cube')[1][1:, 1:, 1:]
    np.testing.assert_allclose(inside_R, alone.nt_sR[0], atol=1e-5 * float(alone.nt_sR.max()))


def test_the_network_of_a_rank_sees_its_own_atoms_and_those_that_reach_its_planes(outcome):
    folder, output, _ = outcome
    natoms = len(read(folder / 'column.xyz'))
    code, *asked = (int(x) for x in next(line for line in output.splitlines() if line.startswith('CODE')).split()[1:])
    assert code == 0 and natoms <= sum(asked) < 2 * natoms and max(asked) < 0.85 * natoms


def test_what_goes_wrong_on_one_rank_is_an_error_on_all_and_leaves_nothing(outcome):
    folder, output, errors = outcome
    codes = [int(line.split()[1]) for line in output.splitlines() if line.startswith('CODE')]
    assert codes == [0, 0, 0, 2, 2, 2, 2]
    lines = [line for line in errors.splitlines() if line.startswith('deepdensity: error')]
    messages = ['2 ranks share the planes of one density', '2 ranks cannot share 1 planes of the grid']
    messages += [f'{name}: File too large' for name in ('full.zarr', 'full.h5')]
    for line, message in zip(lines, messages, strict=True):
        assert message in line
    names = {path.name for path in folder.iterdir()}
    assert names == {'tiny.safetensors', 'column.xyz', 'one.xyz', 'script.py', 'n.zarr', 'n.h5', 'n.cube'}


def test_planes_are_shared_out():
    slabs = list(Grid(np.eye(3), (7, 2, 2)).slabs(4))
    shared = shared_out(slabs, 3)
    assert [len(some) for some in shared] == [2, 2, 3] and [*shared[0], *shared[1], *shared[2]] == slabs
