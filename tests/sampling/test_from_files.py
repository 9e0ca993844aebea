"""Geometries made from those of a file: perturbed, and by dynamics with any calculator."""

from itertools import islice

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import read, write

from ase_deepdensity.cli.main import main
from ase_deepdensity.sampling.dynamics import calculator, dynamics
from ase_deepdensity.sampling.perturb import perturbed


def take(frames, number: int) -> list[Atoms]:
    return list(islice(frames, number))


def test_rattling_has_the_size_asked_for():
    start = bulk('Cu', cubic=True).repeat(3)
    moved = take(perturbed([start], rattle=0.05, seed=1), 5)
    sizes = [np.std(atoms.positions - start.positions) for atoms in moved]
    assert sizes == pytest.approx([0.05] * 5, rel=0.15) and len(set(sizes)) == 5
    again = take(perturbed([start], rattle=0.05, seed=1), 5)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(moved, again, strict=True))


def test_supercells_strain_and_vacancies():
    crystal, slab = bulk('NaCl', 'rocksalt', a=5.6), fcc111('Al', (1, 1, 2), vacuum=5)
    lone = molecule('H2O', vacuum=3)
    frames = take(perturbed([crystal, slab, lone], rattle=0, strain=0.02, max_atoms=16, vacancies=1), 6)
    assert [len(atoms) for atoms in frames] == [15, 11, 2] * 2
    repeated = frames[1]
    assert repeated.cell[2] == pytest.approx(slab.cell[2]), 'what is not periodic keeps its shape'
    assert not np.allclose(repeated.cell.angles()[2], slab.cell.angles()[2], atol=1e-3)
    assert frames[2].cell.array == pytest.approx(lone.cell.array)


def test_charges_stay():
    ion = Atoms('Na', cell=[6, 6, 6], pbc=True, info={'charge': 1})
    assert take(perturbed([ion]), 1)[0].info['charge'] == 1
    assert (
        take(dynamics([Atoms('Cu', cell=[6, 6, 6], info={'charge': 0})], 'EMT', equilibration=0), 1)[0].info['charge']
        == 0
    )


@pytest.mark.parametrize(
    ('keywords', 'message'),
    [
        ({'rattle': -1}, 'rattle must be a number from 0'),
        ({'strain': 2}, 'strain must be a number from 0 to 0.3'),
        ({'vacancies': 3}, '3 of the 3 atoms of OH2 cannot be taken out'),
        ({'max_atoms': 2}, 'OH2 has more than 2 atoms already'),
    ],
)
def test_what_cannot_be_perturbed(keywords, message):
    with pytest.raises(ValueError, match=message):
        perturbed([molecule('H2O', vacuum=3)], **keywords)


def test_atoms_that_always_overlap():
    with pytest.raises(ValueError, match=r'Cu32: atoms overlap in each of 100 tries; rattle \(1.0 Å\)'):
        next(perturbed([bulk('Cu', cubic=True).repeat(2)], rattle=1.0))


def test_dynamics_of_several_starts_at_a_temperature():
    starts = [bulk('Cu', cubic=True).repeat(2), bulk('Al', cubic=True)]
    frames = take(dynamics(starts, 'EMT', temperature=600, equilibration=0.1, interval=0.02, timestep=4, seed=2), 4)
    assert [str(atoms.symbols) for atoms in frames] == ['Cu32', 'Al4', 'Cu32', 'Al4']
    moved = np.std(frames[2].positions - frames[0].positions)
    assert 0.02 < moved < 0.5 and frames[0].calc is None and frames[0].info['kind'] == 'dynamics'


def test_any_class_is_a_calculator():
    from ase.calculators.lj import LennardJones

    assert type(calculator('ase.calculators.lj:LennardJones')) is LennardJones
    for name, message in (
        ('emt', 'import path such as .*; did you mean EMT'),
        ('ase.calculators.lj:Nothing', 'Nothing'),
        ('no.such.module:Thing', 'no'),
        ('ase:Atoms', None),
        ('collections:Counter', 'a Counter is no calculator'),
    ):
        if message:
            with pytest.raises(ValueError, match=message):
                calculator(name)


def test_dynamics_that_cannot_be():
    with pytest.raises(ValueError, match='EMT cannot calculate He: NotImplementedError'):
        take(dynamics([Atoms('He', cell=[5, 5, 5])], 'EMT'), 1)
    close = Atoms('Cu2', [[0, 0, 0], [0, 0, 0.4]], cell=[8, 8, 8])
    with pytest.raises(ValueError, match='has blown up .*shorter --timestep than 10 fs'):
        take(dynamics([close], 'EMT', timestep=10, equilibration=0.1), 1)


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write('start.xyz', [bulk('Cu', cubic=True), bulk('Al', cubic=True)])
    assert main(['sample', 'perturb', 'start.xyz', 'p.xyz', '-n', '3', '--strain', '0.01', '--max-atoms', '8']) == 0
    assert 'p.xyz: 3 geometries of 8 atoms (Al8, Cu8)' in capsys.readouterr().out
    assert (
        main(['sample', 'dynamics', 'start.xyz', 'd.xyz', '-n', '2', '--calculator', 'EMT', '--equilibration', '0'])
        == 0
    )
    assert [str(atoms.symbols) for atoms in read('d.xyz', ':')] == ['Cu4', 'Al4']
    assert main(['sample', 'dynamics', 'start.xyz', 'e.xyz', '--calculator', 'EMTT']) == 2
    assert 'did you mean EMT?' in capsys.readouterr().err
