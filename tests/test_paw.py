from dataclasses import replace

import numpy as np
import pytest
from ase.units import Bohr

from ase_deepdensity.codes import code_of
from ase_deepdensity.level import Level
from ase_deepdensity.paw import AtomType, compensation_charges, pseudo_electrons, spin_compensation_charges
from tests.tolerances import EXACT, GPAW


@pytest.fixture(scope='module')
def oxygen() -> AtomType:
    (atom_type,) = code_of(Level.load('dzp')).atom_types(Level.load('dzp'), [8])
    return atom_type


def test_compensation_charges_are_gpaws(calc, state):
    """In atomic units there, electrons · Å^l here."""
    Q_aL = compensation_charges(state.D_asii, state.types())
    expected = calc.dft.density.calculate_compensation_charge_coefficients()
    for a, gpaw_L in expected.items():
        unit_L = np.array([Bohr ** int(np.sqrt(L)) for L in range(len(gpaw_L))])
        assert Q_aL[a] == pytest.approx(gpaw_L * unit_L, abs=GPAW)


def test_pseudo_electrons_are_gpaws(calc, state):
    electrons = pseudo_electrons(state.D_asii, state.types(), state.charge)
    assert electrons == pytest.approx(float(calc.dft.density.nt_sR.integrate().sum()), rel=GPAW)
    assert pseudo_electrons(state.D_asii, state.types(), 0.5) == pytest.approx(electrons - 0.5, rel=EXACT)


def test_valence_is_gpaws(calc, state):
    setups = calc.dft.setups
    assert sum(atom_type.nvalence for atom_type in state.types()) == setups.nvalence
    assert [atom_type.fingerprint for atom_type in state.types()] == [setup.fingerprint for setup in setups]


def test_charges_of_the_spins_add_up(oxygen):
    D_sii = np.random.default_rng(0).normal(size=(2, oxygen.ni, oxygen.ni))
    (Q_sL,), (Q_L,) = (f([D_sii], [oxygen]) for f in (spin_compensation_charges, compensation_charges))
    assert Q_sL.shape == (2, 9) and Q_sL.sum(axis=0) == pytest.approx(Q_L, rel=EXACT)
    (difference_L,) = compensation_charges([D_sii[:1] - D_sii[1:]], [replace(oxygen, Delta0=0.0)])
    assert Q_sL[0] - Q_sL[1] == pytest.approx(difference_L, abs=EXACT)


def test_free_atom(oxygen):
    """Two s and four p electrons, in the first two partial waves."""
    assert (oxygen.number, oxygen.symbol, oxygen.nvalence, oxygen.core_charge) == (8, 'O', 6.0, 0.0)
    assert oxygen.l_j == (0, 1, 0, 1, 2) and oxygen.n_j == (2, 2, 0, 0, 0)
    assert oxygen.f_j == (2.0, 4.0, 0.0, 0.0, 0.0)
    assert oxygen.eps_j[:2] == pytest.approx([-23.96, -9.03], abs=0.01), 'eV, of PBE'
    assert np.diag(oxygen.D_ii).tolist() == pytest.approx([2] + 3 * [4 / 3] + 9 * [0])
    assert 0.1 < oxygen.rcgauss < 0.4


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'number': 0}, 'needs an atomic number, not 0'),
        ({'number': 8.0}, 'needs an atomic number, not 8.0'),
        ({'l_j': (0, 1, 0, 1, 5)}, 'O: an element has at most 32 projectors with angular momenta of 0 to 4'),
        ({'l_j': (0, 1)}, r'Delta_iiL must have the shape \(4, 4, 1, 4, 9 or 16 …\), not \(13, 13, 9\)'),
        ({'D_ii': np.zeros((13, 12))}, r'D_ii must have the shape \(13, 13\), not \(13, 12\)'),
        ({'N0_ii': np.zeros((12, 12))}, r'N0_ii must have the shape \(13, 13\), not \(12, 12\)'),
        ({'N0_ii': np.full((13, 13), np.nan)}, 'N0_ii must be finite'),
        ({'eps_j': (1.0,)}, 'eps_j must have 5 values'),
        ({'Delta0': float('nan')}, 'Delta0 must be finite, not nan'),
        ({'nvalence': -1.0}, 'nvalence must be from 0 to 1000, not -1.0'),
        ({'rcgauss': 0.0}, 'rcgauss must be positive'),
    ],
)
def test_what_is_no_atom_type(oxygen, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(oxygen, **changes)


def test_a_dataset_is_the_same_on_all_machines(oxygen):
    """They differ in the last digits of its integrals."""
    elsewhere = replace(oxygen, Delta0=oxygen.Delta0 * (1 + 3e-16), Delta_iiL=oxygen.Delta_iiL * (1 - 1e-15))
    assert elsewhere.Delta0 != oxygen.Delta0 and elsewhere.is_like(oxygen)
    assert not replace(oxygen, Delta0=oxygen.Delta0 + 1e-5).is_like(oxygen)


def test_matrices_of_another_size_are_refused(oxygen):
    with pytest.raises(ValueError, match=r'atom 0 \(O\) has the shape \(12, 12\); its dataset has 13 projectors'):
        compensation_charges([np.zeros((1, 12, 12))], [oxygen])
