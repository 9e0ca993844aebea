import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.collections import dcdft, s22

from ase_deepdensity.sampling.held_out import (
    G2_HELD_OUT,
    VOLUME_MARGIN,
    connectivity,
    held_out_formulas,
    held_out_table,
    reason_to_hold_out,
    reduced_formula,
)


def strained_copy(atoms: Atoms, volume: float) -> Atoms:
    """Sheared and rattled, at ``volume`` times the volume."""
    atoms = atoms.repeat((2, 1, 1))
    shear_vv = np.array([[1.05, 0.1, 0.0], [0.0, 0.97, 0.05], [0.0, 0.0, 1.0]])
    shear_vv *= (volume / np.linalg.det(shear_vv)) ** (1 / 3)
    atoms.set_cell(atoms.cell.array @ shear_vv, scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize('symbol', ['Al', 'Si', 'Ga', 'Mn', 'Xe'])
def test_elemental_crystals_near_the_reference_are_held_out_however_strained(symbol):
    reference = dcdft[symbol]
    assert symbol in reason_to_hold_out(reference)
    for volume in 1 - 0.9 * VOLUME_MARGIN, 1.0, 1 + 0.9 * VOLUME_MARGIN:
        assert reason_to_hold_out(strained_copy(reference, volume)), volume
    for volume in 1 - 1.1 * VOLUME_MARGIN, 1 + 1.1 * VOLUME_MARGIN:
        assert reason_to_hold_out(strained_copy(reference, volume)) is None, volume


def test_other_systems_of_an_element_are_free():
    assert reason_to_hold_out(bulk('C', 'diamond', 3.57)) is None, 'the reference is graphite'
    assert reason_to_hold_out(fcc111('Al', (1, 1, 4), vacuum=5)) is None
    assert reason_to_hold_out(bulk('La', 'fcc', 5.3)) is None, 'not in the collection'


@pytest.mark.parametrize('name', G2_HELD_OUT)
def test_molecules_of_g2_are_held_out_in_any_shape(name):
    atoms = molecule(name, vacuum=4)
    atoms.rotate(33, (1, 2, 3), center='COP')
    atoms.rattle(0.03, seed=2)
    assert name in reason_to_hold_out(atoms[np.random.default_rng(0).permutation(len(atoms))])


def test_isomers_are_told_apart():
    assert connectivity(molecule('butadiene')) != connectivity(molecule('2-butyne'))
    for free in 'CH3OCH3', 'C3H4_D2d', 'cyclobutene', 'CH3CH2OH', 'H2O', 'C2H6':
        assert reason_to_hold_out(molecule(free, vacuum=4)) is None, free


@pytest.mark.parametrize('name', ['Water_dimer', 'Formic_acid_dimer', 'Ethene-ethyne_complex', 'Phenol_dimer'])
def test_complexes_of_s22_are_held_out(name):
    atoms = s22[name]
    atoms.center(vacuum=4)
    assert name in reason_to_hold_out(atoms)


def test_held_out_formulas():
    assert len(held_out_formulas()) == len(held_out_table()) == 50
    assert {len(Atoms(formula).symbols.formula.count()) for formula in held_out_formulas()} == {2, 3}
    assert all(reduced_formula(Atoms(formula)) == formula for formula in held_out_formulas())
    assert len({kind for _, kind, _ in held_out_table()}) >= 7
    cadmium_sulphide = bulk('CdS', 'wurtzite', 4.1)
    assert reason_to_hold_out(cadmium_sulphide) == 'CdS is held out as a whole'
    assert reason_to_hold_out(bulk('CdTe', 'zincblende', 6.5)) is None
