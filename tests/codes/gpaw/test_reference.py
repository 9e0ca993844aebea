import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from gpaw.utilities import compiled_with_sl

from ase_deepdensity.codes.gpaw.reference import calculate, snapshot_from_gpw
from ase_deepdensity.dataset import Dataset, DatasetError, read_snapshot
from ase_deepdensity.frames import read_frames
from ase_deepdensity.generate.folder import generate
from ase_deepdensity.generate.jobs import job_hash
from ase_deepdensity.level import Level, LevelError
from tests.conftest import FAST
from tests.tolerances import GPAW


def hydrogen(length: float = 0.75) -> Atoms:
    return Atoms('H2', [[1.6, 1.7, 1.5], [1.6, 1.7, 1.5 + length]], cell=[3.2, 3.4, 3.8], pbc=True)


def test_calculate_is_gpaw(fast_level):
    from gpaw.new import ase_interface

    snapshot = calculate(hydrogen(), fast_level)
    atoms = hydrogen()
    atoms.calc = ase_interface.GPAW(**FAST, txt=None)
    assert snapshot.energy == pytest.approx(atoms.get_potential_energy(), rel=GPAW)
    assert snapshot.forces == pytest.approx(atoms.get_forces(), abs=GPAW)
    assert snapshot.dipole == pytest.approx(atoms.get_dipole_moment(), abs=GPAW)
    assert snapshot.density.nt_sR == pytest.approx(calculate(atoms, fast_level).density.nt_sR, abs=GPAW)
    assert snapshot.niter == atoms.calc.get_number_of_iterations() > 3
    assert snapshot.seconds > 0
    assert snapshot.level.name == 'fast' and snapshot.level.versions['datasets'].keys() == {'H'}


def test_calculate_does_not_touch_the_atoms(fast_level):
    atoms = hydrogen()
    calculate(atoms, fast_level)
    assert atoms.calc is None


def test_charged_systems(tmp_path, fast_level):
    """The charge is one of the atoms: in memory, in files of geometries, in names of snapshots and in snapshots."""
    neutral, ion = hydrogen(), hydrogen()
    ion.pbc = False
    ion.info['charge'] = 1
    write(tmp_path / 'ion.xyz', ion)
    frames = [neutral, *read_frames([tmp_path / 'ion.xyz'])]
    generate(frames, tmp_path / 'out', fast_level, progress=False)
    neutral_state, state = (snapshot.density for snapshot in Dataset(tmp_path / 'out'))
    assert [neutral_state.charge, state.charge] == [0.0, 1.0]
    assert state.number_of_electrons() == pytest.approx(1.0, abs=1e-6)
    assert state.normalized().integral() == pytest.approx(state.integral(), rel=1e-6)
    with pytest.raises(DatasetError, match='systems of different charges: 00000-.*.h5 0, 00001-.*.h5 1'):
        _ = Dataset(tmp_path / 'out').charge
    assert Dataset(tmp_path / 'out')[1:].charge == 1.0
    assert job_hash(ion, fast_level) != job_hash(Atoms(ion.symbols, ion.positions, cell=ion.cell), fast_level)


def test_gpw_files(molecule_calc, tmp_path):
    path = tmp_path / 'a.gpw'
    molecule_calc.dft.results.pop('forces', None)
    molecule_calc.write(path)
    assert snapshot_from_gpw(path).forces is None
    forces_av = molecule_calc.get_forces()
    molecule_calc.write(path)
    snapshot = snapshot_from_gpw(path)
    assert snapshot.energy == pytest.approx(molecule_calc.get_potential_energy(), rel=GPAW)
    assert snapshot.forces == pytest.approx(forces_av, abs=GPAW)
    path.write_text('not GPAW')
    with pytest.raises(ValueError, match='a.gpw: GPAW cannot read'):
        snapshot_from_gpw(path)


def test_generate_continues_without_recomputing(tmp_path, fast_level):
    frames = [hydrogen(), hydrogen(0.8)]
    summary = generate(frames[:1], tmp_path / 'new' / 'out', fast_level, progress=False)
    (first,) = summary.done
    before = first.stat().st_mtime_ns
    summary = generate(frames, tmp_path / 'new' / 'out', fast_level, progress=False)
    assert summary.skipped == [first] and len(summary.done) == 1 and not summary.failed
    assert first.stat().st_mtime_ns == before
    dataset = Dataset(tmp_path / 'new' / 'out')
    assert dataset.files == summary.skipped + summary.done
    assert dataset[1].atoms == frames[1]
    assert dataset.level == fast_level


def test_failures_are_recorded_and_retried_on_request(tmp_path, fast_level):
    """Three iterations are too few; the hash leaves convergence parameters out, so that a retry may change them."""
    hasty = Level(FAST | {'maxiter': 3}, 'fast')
    messages: list[str] = []
    summary = generate([hydrogen()], tmp_path, hasty, progress=False, log=messages.append)
    (failure,) = summary.failed
    assert 'KohnShamConvergenceError' in failure.reason and messages == summary.lines()[1:]
    record = json.loads(failure.path.read_text())
    assert record['formula'] == 'H2' and 'Traceback' in record['traceback']

    again = generate([hydrogen()], tmp_path, fast_level, progress=False)
    assert not again.done and again.failed == summary.failed, 'not tried again unless asked'
    retried = generate([hydrogen()], tmp_path, fast_level, retry_failed=True, progress=False)
    assert len(retried.done) == 1 and not retried.failed and not failure.path.exists()


def test_overlapping_atoms_fail_alone(tmp_path, fast_level):
    summary = generate([hydrogen(0.001), hydrogen()], tmp_path, fast_level, progress=False)
    assert [len(summary.done), len(summary.failed)] == [1, 1]
    assert summary.lines()[0] == '1 done, 0 there already, 1 failed'


def test_calculations_are_let_go(tmp_path, fast_level, monkeypatch):
    """GPAW's objects hold each other; those of one snapshot are gone when the next is made."""
    from gpaw.new import ase_interface

    alive = []

    def watched(**keywords):
        assert all(calc() is None for calc in alive)
        calc = ase_interface.GPAW(**keywords)
        alive.append(weakref.ref(calc))
        return calc

    gc.disable()
    try:
        frames = [hydrogen(), hydrogen(0.8)]
        generate(frames, tmp_path, fast_level, progress=False, calculate=partial(calculate, calculator=watched))
    finally:
        gc.enable()
    assert len(alive) == 2


def test_errors_before_any_work(tmp_path, fast_level):
    with pytest.raises(LevelError, match='GPAW refuses'):
        generate([hydrogen()], tmp_path, Level({'mode': 'lcaoo'}))
    with pytest.raises(LevelError, match='Po is missing'):
        generate([hydrogen(), Atoms('Po', cell=[3, 3, 3])], tmp_path, fast_level)
    (tmp_path / 'file').touch()
    with pytest.raises(DatasetError, match='is a file'):
        generate([hydrogen()], tmp_path / 'file', fast_level)
    generate([hydrogen()], tmp_path / 'out', fast_level, progress=False)
    with pytest.raises(DatasetError, match='another level of theory: h: 0.25 against 0.3; give another folder'):
        generate([hydrogen()], tmp_path / 'out', Level(FAST | {'h': 0.25}))


@pytest.mark.skipif(shutil.which('mpiexec') is None, reason='mpiexec is not installed')
@pytest.mark.parametrize(
    ('parameters', 'options', 'ranks'),
    [
        (FAST, [], 2),
        (FAST, ['--ranks-per-snapshot', '1'], 1),
        ({'mode': {'name': 'pw', 'ecut': 150}, 'xc': 'PBE'}, [], 2 if compiled_with_sl() else 1),
    ],
    ids=['together', 'one each', 'plane waves'],
)
def test_two_ranks_give_the_same(tmp_path, parameters, options, ranks):
    frames = [hydrogen(), hydrogen(0.8), hydrogen(0.001)]
    write(tmp_path / 'h2.xyz', frames)
    (tmp_path / 'level.json').write_text(json.dumps(parameters))
    summary = generate(frames, tmp_path / 'serial', Level(parameters), progress=False)
    result = _mpiexec(tmp_path, 'generate', 'h2.xyz', 'parallel', '--level', 'level.json', '--quiet', *options)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout.count('2 done, 0 there already, 1 failed') == 1, 'only the master reports'
    assert len(summary.done) == 2
    for path in summary.done:
        serial, parallel = read_snapshot(path), read_snapshot(tmp_path / 'parallel' / path.name)
        assert parallel.info['ranks'] == ranks
        assert parallel.energy == pytest.approx(serial.energy, rel=GPAW)
        assert parallel.niter == serial.niter
        assert parallel.density.nt_sR == pytest.approx(serial.density.nt_sR, abs=GPAW)
        for D_sii, parallel_sii in zip(serial.density.D_asii, parallel.density.D_asii, strict=True):
            assert parallel_sii == pytest.approx(D_sii, abs=GPAW)
        assert parallel.forces == pytest.approx(serial.forces, abs=GPAW * np.abs(serial.forces).max() + GPAW)


@pytest.mark.skipif(shutil.which('mpiexec') is None, reason='mpiexec is not installed')
def test_an_error_ends_all_ranks(tmp_path):
    write(tmp_path / 'h2.xyz', [hydrogen()])
    (tmp_path / 'out').touch()
    result = _mpiexec(tmp_path, 'generate', 'h2.xyz', 'out', '--level', 'dzp')
    assert result.returncode == 2
    assert result.stderr.count('deepdensity: error: out: is a file; snapshots need a folder') == 1
    assert 'Traceback' not in result.stderr


def _mpiexec(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('OMPI_', 'PMI', 'GPAW_MPI'))}
    return subprocess.run(
        ['mpiexec', *_open_mpi_options(), '-n', '2', sys.executable, '-m', 'ase_deepdensity.cli.main', *arguments],
        cwd=folder,
        env=environment | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _open_mpi_options() -> list[str]:
    version = subprocess.run(['mpiexec', '--version'], capture_output=True, text=True).stdout
    return ['--allow-run-as-root', '--oversubscribe'] if 'Open' in version else []
