"""Spin-polarised references: what they hold, and how they are driven to convergence."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from gpaw import KohnShamConvergenceError
from gpaw.new import ase_interface

from ase_deepdensity.codes.gpaw.reference import MAGNETIC_MIXER, calculate
from ase_deepdensity.dataset import Dataset, read_snapshot, write_snapshot
from ase_deepdensity.dataset.density_file import read_density, write_density
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity
from tests.conftest import FAST
from tests.tolerances import EXACT, GPAW


def hydrogen_pair(*moments: float) -> Atoms:
    """Too far apart for a bond."""
    atoms = Atoms('H2', [[1.6, 1.7, 1.5], [1.6, 1.7, 4.5]], cell=[3.2, 3.4, 6.0], pbc=True)
    atoms.set_initial_magnetic_moments(moments or None)
    return atoms


def test_moments_are_gpaws(calc, state):
    assert state.magnetic_moment() == pytest.approx(calc.get_magnetic_moment(), abs=GPAW)
    assert state.magnetic_moments() == pytest.approx(calc.get_magnetic_moments(), abs=GPAW)


def test_an_antiferromagnet_has_no_moment_and_its_atoms_have(tmp_path, fast_level):
    snapshot = calculate(hydrogen_pair(1, -1), fast_level)
    assert snapshot.density.nspins == 2 and 'mixer' not in snapshot.info
    up, down = snapshot.density.magnetic_moments()
    assert up == pytest.approx(-down, abs=1e-3) and up > 0.2
    assert snapshot.density.magnetic_moment() == pytest.approx(0, abs=1e-6)

    write_snapshot(tmp_path / 'a.h5', snapshot)
    write_density(tmp_path / 'd.h5', snapshot.density)
    for density in read_snapshot(tmp_path / 'a.h5').density, read_density(tmp_path / 'd.h5'):
        assert density.atoms.get_initial_magnetic_moments().tolist() == [1, -1]
        assert np.array_equal(density.nt_sR, snapshot.density.nt_sR)
        assert density.magnetic_moments() == pytest.approx([up, down], rel=EXACT), 'overlaps come back'
    assert Dataset(tmp_path / 'a.h5').outline(0).nspins == 2


@pytest.mark.parametrize(
    ('parameters', 'moments'), [({'hund': True}, [3]), ({'magmoms': [1.0]}, [1]), ({'spinpol': True}, [0])]
)
def test_atoms_have_the_moments_that_gpaw_began_with(parameters, moments):
    """Whoever asked for them: a model sees no keywords."""
    atom = Atoms('N', [[1.8, 1.8, 1.8]], cell=[3.6, 3.6, 3.6], magmoms=[0.0])
    density = calculate(atom, Level(FAST | parameters)).density
    assert abs(density.magnetic_moment()) == pytest.approx(3, abs=0.05)  # GPAW finds it from zero, too, up or down
    assert density.nspins == 2 and density.atoms.get_initial_magnetic_moments().tolist() == moments


def test_another_mixer_is_taken_where_the_default_fails(fast_level):
    tried = []

    def stubborn(**keywords):
        """Fails unless a mixer is given."""
        tried.append(keywords.get('mixer'))
        calc = ase_interface.GPAW(**keywords)
        if 'mixer' not in keywords:
            calc.get_potential_energy = fail
        return calc

    def fail(atoms):
        raise KohnShamConvergenceError('too many iterations')

    snapshot = calculate(hydrogen_pair(1, 1), fast_level, calculator=stubborn)
    assert tried == [None, MAGNETIC_MIXER] and snapshot.info['mixer'] == MAGNETIC_MIXER
    assert snapshot.density.magnetic_moment() == pytest.approx(2, abs=1e-3)
    with pytest.raises(KohnShamConvergenceError):  # only what is spin-polarised has a second try
        calculate(hydrogen_pair(), fast_level, calculator=stubborn)


def test_spins_are_joined_and_parted(magnetic_calc):
    state = PAWDensity.from_gpaw(magnetic_calc)
    both = state.with_spins(1)
    assert both.nspins == 1 and both.number_of_electrons() == pytest.approx(5, abs=1e-5)
    assert both.magnetic_moments().tolist() == [0] and both.magnetic_moment() == 0
    again = both.with_spins(2)
    assert np.array_equal(again.nt_sR[0], again.nt_sR[1]) and again.magnetic_moment() == pytest.approx(0, abs=EXACT)
    assert again.nt_sR.sum(0) == pytest.approx(state.nt_sR.sum(0), rel=EXACT)
    with pytest.raises(ValueError, match='1 or 2 spin densities, not 3'):
        state.with_spins(3)
