"""Samplers that need pymatgen and CHGNet (extra ``sampling-general``); skipped without."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from ase.build import bulk
from ase.collections import dcdft

from ase_deepdensity.cli.main import main
from ase_deepdensity.sampling import plan, surfaces
from ase_deepdensity.sampling.chemistry import ELEMENTS, fits, kind_of_elements, plausible
from ase_deepdensity.sampling.crystals import compounds
from ase_deepdensity.sampling.distort import dilated
from ase_deepdensity.sampling.held_out import held_out_formulas
from ase_deepdensity.sampling.molecules import hydrogen_bonded, is_closed_shell, known, salts, simple
from ase_deepdensity.sampling.potential import Memory, energies, remembered_in
from ase_deepdensity.sampling.prototypes import prototypes, relaxed_volume, scaled

pytest.importorskip('pymatgen')
pytestmark = pytest.mark.filterwarnings('ignore:Set OLD_ERROR_HANDLING:DeprecationWarning')  # spglib's


def test_formulas_that_may_be():
    assert len(ELEMENTS) == 69
    for formula in (
        {'Na': 1, 'Cl': 1},
        {'Ti': 1, 'O': 2},
        {'Sr': 1, 'Ti': 1, 'O': 3},
        {'Ti': 1, 'C': 1},
        {'Al': 1, 'Ni': 3},
    ):
        assert plausible(formula), formula
    for formula in {'Na': 1, 'Cl': 2}, {'Mg': 2, 'O': 1}, {'Al': 1, 'F': 1}, {'H': 1, 'Cl': 1, 'Xe': 1}:
        assert not plausible(formula), formula
    assert kind_of_elements(['Pt', 'Si']) == 'carbide' and kind_of_elements(['Na', 'Cl', 'O']) == 'oxide'
    assert fits(['K', 'Br'], ['Na', 'Cl']) and not fits(['Cs', 'F'], ['Na', 'Cl'])


def test_prototypes_are_symmetric_and_primitive():
    import spglib

    numbers = Counter(len(prototype.elements) for prototype in prototypes())
    assert numbers[1] > 30 and numbers[2] > 100 and numbers[3] > 20
    for prototype in prototypes(4):
        atoms = prototype.atoms
        cell = atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers
        sharp, blurred = (spglib.get_symmetry_dataset(cell, symprec=symprec) for symprec in (1e-7, 1e-3))
        assert sharp.number == blurred.number, prototype.name
        assert len(spglib.find_primitive(cell)[2]) == len(atoms), prototype.name


def test_relaxed_volume_finds_a_minimum_outside_its_first_window():
    crystal = bulk('NaCl', 'rocksalt', 5.0)

    def energies(structures):
        return np.array(
            [(atoms.get_volume() ** (1 / 3) - 1.3 * crystal.get_volume() ** (1 / 3)) ** 2 for atoms in structures]
        )

    assert relaxed_volume(crystal, energies).get_volume() == pytest.approx(scaled(crystal, 1.3).get_volume(), rel=1e-6)
    assert relaxed_volume(crystal, lambda structures: -np.array([atoms.get_volume() for atoms in structures])) is None
    repulsive = np.array([1.0, 0.9, 0.8, 0.7, np.inf, np.inf, np.inf])  # until no atom sees another
    assert relaxed_volume(crystal, lambda structures: repulsive) is None


def test_compounds_are_repeatable_and_never_held_out():
    first, second = ([c.name for c in islice(compounds(random.Random(4), per_prototype=30), 900)] for _ in range(2))
    assert first == second
    found = list(compounds(random.Random(5), per_prototype=60))
    assert not {compound.formula for compound in found} & held_out_formulas()
    assert len({symbol for compound in found for symbol in compound.elements}) >= 60


def test_molecules_have_closed_shells():
    groups = {'known': list(known()), 'simple': list(simple()), 'salts': list(salts())}
    assert [len(group) > 60 for group in groups.values()] == [True] * 3
    for group in groups.values():
        assert all(is_closed_shell(atoms) and not atoms.pbc.any() for _, atoms in group)
    assert len({atoms.symbols[0] for _, atoms in groups['simple']}) > 55


def test_hydrogen_bonds():
    for name, atoms in islice(hydrogen_bonded(random.Random(0)), 20):
        distance_aa = atoms.get_all_distances() + 10 * np.eye(len(atoms))
        assert len(atoms) <= 12 and distance_aa.min() > 0.7, name
        first = len(atoms) - sum(plan.molecule(name.partition('+')[2]).numbers > 0)
        assert 1.3 < distance_aa[:first, first:].min() < 2.5, name


def test_stages_of_molecules_are_repeatable_and_trainable(tmp_path, capsys):
    arguments = ['sample', 'molecules', '-n', '12', '--seed', '2']
    for name in 'a.xyz', 'b.xyz':
        assert main([*arguments, str(tmp_path / name)]) == 0
    assert (tmp_path / 'a.xyz').read_text() == (tmp_path / 'b.xyz').read_text()
    assert 'core-hours' in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / 'c.xyz'), '--stage', 'liquid']) == 2
    assert "no stage 'liquid': use one of atom, known, simple, pair, salt" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.xyz', 'b.xyz'], 'and no energies'


def test_crystals_with_the_potential():
    pytest.importorskip('chgnet')
    dense, bare, dilute = energies([bulk('H', 'fcc', 1.2), bulk('Al', a=4.05), bulk('Xe', 'fcc', 9.0)])
    assert np.isinf([dense, dilute]).all() and -4 < bare < -3, 'eV per atom; the cohesive energy'
    frames = list(islice(plan.structures('crystals', 'bound', seed=1), 3))
    assert len({atoms.info['kind'] for atoms in frames}) == 3
    assert all(plan.reason_to_hold_out(atoms) is None and atoms.pbc.all() for atoms in frames)


def test_an_interrupted_plan_finds_its_energies_again(tmp_path, monkeypatch):
    pytest.importorskip('chgnet')
    crystals, path = [bulk('Al', a=4.05), bulk('NaCl', 'rocksalt', 5.7)], tmp_path / 'energies'
    with remembered_in(path):
        first = energies(crystals)
    monkeypatch.setattr('ase_deepdensity.sampling.potential._calculated', lambda structures: np.zeros(len(structures)))
    with remembered_in(path):
        np.testing.assert_array_equal(energies([*crystals, bulk('Cu', a=3.6)]), [*first, 0.0])
    with remembered_in(tmp_path / 'other'):
        np.testing.assert_array_equal(energies(crystals), [0.0, 0.0])


def test_energies_belong_to_a_structure_to_the_last_bit():
    memory, crystal = Memory(), bulk('Al', a=4.05)
    memory.put([crystal], np.array([-np.inf]))
    assert memory.get(crystal.copy()) == -np.inf and memory.get(scaled(crystal, 1 + 1e-12)) is None


def test_a_plan_keeps_its_energies_until_it_is_written(tmp_path, monkeypatch):
    pytest.importorskip('chgnet')
    argv = ['sample', 'crystals', str(tmp_path / 'plan.xyz'), '-n', '2']
    monkeypatch.setattr('ase.io.write', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(['--traceback', *argv])
    assert [path.name for path in tmp_path.iterdir()] == ['.plan.xyz.energies']
    monkeypatch.undo()
    assert main(argv) == 0
    assert [path.name for path in tmp_path.iterdir()] == ['plan.xyz']


def test_elements_in_several_structures_and_plain_slabs():
    crystals = list(plan.structures(name='element'))
    seen = Counter(symbol for atoms in crystals for symbol in set(atoms.symbols))
    assert set(seen) >= set(ELEMENTS) - {'La'} and min(seen.values()) >= 4  # La is not in dcdft
    for atoms in crystals[::20]:
        natural = dcdft[atoms.symbols[0]]
        scale = float(atoms.info['name'].split('-')[2])
        expected = scale * natural.get_volume() / len(natural)
        assert atoms.get_volume() / len(atoms) == pytest.approx(expected) and atoms.pbc.all()
    slabs = list(plan.structures(name='plain'))
    assert len({str(atoms.symbols) for atoms in slabs}) > 50
    for atoms in slabs:
        z_a = np.sort(atoms.positions[:, 2])
        assert z_a[0] > 3 and z_a[-1] < atoms.cell[2, 2] - 3 and not atoms.pbc[2] and len(atoms) <= 6


@pytest.mark.parametrize(('cut', 'most'), [(surfaces.relaxed_slab, 8), (surfaces.thin_slab, 6)])
def test_relaxed_slabs_keep_the_symmetry_of_their_plane(cut, most):
    import spglib

    rng = np.random.default_rng(1)
    for _ in range(5):
        slab = cut(bulk('NaCl', 'rocksalt', 5.6), rng)
        assert 2 <= len(slab) <= most and slab.pbc.tolist() == [True, True, False]
        cell = (slab.cell.array, slab.get_scaled_positions(), slab.numbers)
        assert len(spglib.get_symmetry(cell)['rotations']) >= 2  # a rattled one has the identity only
    assert cut(bulk('NaCl', 'rocksalt', 5.6), rng, max_atoms=1) is None


@pytest.mark.parametrize('cut', [surfaces.relaxed_slab, surfaces.thin_slab])
def test_layers_of_relaxed_slabs_move(cut):
    rng = np.random.default_rng(1)
    slabs = [cut(bulk('NaCl', 'rocksalt', 5.6), rng) for _ in range(20)]
    gaps = [np.diff(np.unique(slab.positions[:, 2].round(3))) for slab in slabs]
    assert all(np.ptp(gap_i) > 0.02 for gap_i in gaps if len(gap_i) > 1)  # they were equal or in turn
    assert len(np.unique(np.concatenate(gaps).round(3))) > 12, 'crystals have one or two for each of five surfaces'


def test_every_element_stands_alone_once():
    atoms_t = list(plan.structures(name='atom'))
    assert sorted(str(atoms.symbols) for atoms in atoms_t) == sorted(ELEMENTS)
    assert not any(atoms.pbc.any() for atoms in atoms_t) and min(a.cell.lengths().min() for a in atoms_t) > 6


def test_dilated_crystals_reach_from_pressure_to_loose_atoms():
    crystal = bulk('NaCl', 'rocksalt', 5.6)
    rng = np.random.default_rng(0)
    scales = [(dilated(crystal, rng).get_volume() / crystal.get_volume()) ** (1 / 3) for _ in range(200)]
    assert 0.85 <= min(scales) < 0.88 and 1.42 < max(scales) <= 1.5 and np.median(scales) < 1.17
