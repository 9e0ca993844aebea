import shutil
from dataclasses import replace

import pytest
from ase import Atoms

from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator
from ase_deepdensity.dataset import Dataset, DatasetError, write_snapshot
from ase_deepdensity.dataset.folder import read_failures, write_failure
from ase_deepdensity.level import Level
from tests.dataset.spoil import SHARED, change, put


@pytest.fixture
def folder(tmp_path, molecule_calc):
    for i in range(5):
        write_snapshot(tmp_path / f'{i}.h5', snapshot_from_calculator(molecule_calc, niter=i, seconds=1.0))
    (tmp_path / '.tmp.host.1-0a0a0a0a.0.h5').touch()
    return tmp_path


def test_sequence(folder):
    dataset = Dataset(folder)
    assert len(dataset) == 5
    assert [snapshot.niter for snapshot in dataset] == [0, 1, 2, 3, 4]
    assert dataset[-1].niter == 4
    assert [snapshot.niter for snapshot in dataset[1:3]] == [1, 2]
    assert [snapshot.niter for snapshot in dataset[[4, 0]]] == [4, 0]
    assert dataset.numbers == [1, 8]
    assert dataset.level.differences(dataset[0].level) == []
    with pytest.raises(IndexError):
        dataset[5]


def test_split_is_by_snapshot_and_repeatable(folder):
    training, validation = Dataset(folder).split(2, seed=1)
    assert len(training) == 3 and len(validation) == 2
    assert sorted(training.files + validation.files) == Dataset(folder).files
    assert Dataset(folder).split(2, seed=1)[1].files == validation.files
    assert any(Dataset(folder).split(2, seed=seed)[1].files != validation.files for seed in range(2, 9))
    with pytest.raises(DatasetError, match='1 to 4 can be set aside, not 5'):
        Dataset(folder).split(5)


def test_two_levels_do_not_mix(folder, slab_calc):
    write_snapshot(folder / '9.h5', snapshot_from_calculator(slab_calc, niter=1, seconds=1.0))
    with pytest.raises(
        DatasetError, match=r'9\.h5 is at another level of theory than those before: basis: .*; h: 0.3 against'
    ):
        print(Dataset(folder).level)


def test_level_knows_the_datasets_of_all_elements(folder, tmp_path):
    """Also of those that the first snapshot lacks."""
    (tmp_path / 'known').mkdir()
    first, last = Dataset(folder)[0], Dataset(folder)[-1]
    versions = {'gpaw': '26.7.0', 'datasets': {'H': 'a'}}, {'gpaw': '26.7.0', 'datasets': {'C': 'b', 'H': 'a'}}
    for name, snapshot, known in ('1', first, versions[0]), ('2', last, versions[1]):
        level = Level(snapshot.density.level.parameters, '', known)
        write_snapshot(tmp_path / 'known' / f'{name}.h5', replace(snapshot, density=snapshot.density.new(level=level)))
    assert Dataset(tmp_path / 'known').level.versions == versions[1]


def test_fingerprint_changes_with_the_content(folder):
    before = Dataset(folder).fingerprint
    assert len(before) == 16 and before == Dataset(folder).fingerprint
    assert Dataset(folder)[1:].fingerprint != before != Dataset(folder)[[1, 0, 2, 3, 4]].fingerprint
    snapshot = Dataset(folder)[2]
    write_snapshot(folder / '2.h5', replace(snapshot, energy=snapshot.energy + 1e-9))
    assert Dataset(folder).fingerprint != before
    write_snapshot(folder / '2.h5', snapshot)
    assert Dataset(folder).fingerprint == before
    dataset = Dataset(folder)
    shutil.copy(SHARED / 'snapshot-1.h5', folder / '2.h5')
    old = dataset.fingerprint
    assert old != before
    change(folder / '2.h5', put('nt_sR', (0, 1, 1, 1), 0.0))
    assert Dataset(folder).fingerprint not in (before, old), 'one without a checksum is read'
    dataset = Dataset(folder)
    (folder / '2.h5').unlink()
    with pytest.raises(DatasetError, match='2.h5: cannot be read'):
        print(dataset.fingerprint)


def test_no_snapshots(tmp_path):
    with pytest.raises(DatasetError, match='no such file or folder'):
        Dataset(tmp_path / 'nothing')
    with pytest.raises(DatasetError, match='no snapshots .* make some with'):
        Dataset(tmp_path)
    with pytest.raises(DatasetError, match='at least one snapshot'):
        Dataset([])


def test_failures(tmp_path):
    write_failure(tmp_path / '1.failed.json', 'did not converge', index=1)
    assert [failure.reason for failure in read_failures(tmp_path)] == ['did not converge']
    with pytest.raises(DatasetError, match='1 failed calculations are recorded there'):
        Dataset(tmp_path)


@pytest.mark.parametrize('seed', range(5))
def test_the_only_snapshot_of_an_element_is_trained_on(folder, magnetic_calc, seed):
    write_snapshot(folder / 'n.h5', snapshot_from_calculator(magnetic_calc, niter=1, seconds=1.0))
    training, validation = Dataset(folder).split(4, seed=seed)
    assert training.numbers == [1, 7, 8] and len(validation) == 4
    with pytest.raises(DatasetError, match='4 of 6 snapshots can be set aside, not 5: .* one of H, N, O'):
        Dataset(folder).split(5, seed=seed)


FORMULAS = {'0': 'Si2', '1': 'GaAs', '2': 'Si8', '3': 'Ga4As4', '4': 'GaP', '5': 'AsP', '6': 'SiP', '7': 'SiP'}


@pytest.mark.parametrize('seed', range(5))
def test_split_by_compounds(folder, monkeypatch, seed):
    """All snapshots of a formula, whatever their size, are on one side."""
    monkeypatch.setattr('ase_deepdensity.dataset.folder.read_numbers', lambda file: Atoms(FORMULAS[file.stem]).numbers)
    for name in sorted(FORMULAS)[5:]:
        shutil.copy(folder / '0.h5', folder / f'{name}.h5')
    training, validation = Dataset(folder).split(2, seed=seed, compounds=True)
    assert sorted(training.files + validation.files) == Dataset(folder).files
    assert 2 <= len(validation) <= 3
    sides = [
        {str(Atoms(FORMULAS[file.stem]).symbols.formula.reduce()[0]) for file in part.files}
        for part in (training, validation)
    ]
    assert sides[0].isdisjoint(sides[1])
    assert training.numbers == [14, 15, 31, 33]
    with pytest.raises(DatasetError, match='of 8 snapshots can be set aside, not 7: .* one of '):
        Dataset(folder).split(7, seed=seed, compounds=True)
