import numpy as np
import pytest

from ase_deepdensity.analysis.compare import (
    compare,
    density_matrix_error,
    element_means,
    element_spreads,
    magnetisation_nmae,
    nmae,
)
from ase_deepdensity.state import PAWDensity
from tests.tolerances import EXACT


@pytest.fixture
def reference(molecule_state):
    """A state whose two hydrogen atoms differ, so that the element's mean is not exact."""
    D_asii = [D_sii.copy() for D_sii in molecule_state.D_asii]
    D_asii[1] = 1.2 * D_asii[1]
    return molecule_state.new(D_asii=D_asii)


def test_nmae_of_a_scaled_density(molecule_state):
    assert nmae(molecule_state, molecule_state) == 0.0
    scaled = molecule_state.new(nt_sR=1.01 * molecule_state.nt_sR)
    assert nmae(scaled, molecule_state) == pytest.approx(1.0, rel=1e-9)


def test_the_mean_has_error_one(reference):
    means = element_means([reference])
    mean = reference.new(D_asii=[means[z] for z in reference.atoms.numbers])
    errors = density_matrix_error([mean], [reference])
    assert errors['H'] == pytest.approx(1.0, rel=EXACT)
    assert np.isnan(errors['O']), 'one oxygen atom is its own mean'
    assert errors['total'] == pytest.approx(1.0, rel=EXACT)


def test_density_matrix_error_by_hand(reference):
    """One element of one oxygen atom wrong by 0.1, means of zero: ε = 0.1 / ‖D‖."""
    D_asii = [D_sii.copy() for D_sii in reference.D_asii]
    D_asii[0][0, 0, 0] += 0.1
    means = {z: np.zeros_like(reference.D_asii[a]) for a, z in enumerate(reference.atoms.numbers)}
    errors = density_matrix_error([reference.new(D_asii=D_asii)], [reference], means)
    norm2_a = [np.sum(D_sii**2) for D_sii in reference.D_asii]
    assert errors['O'] == pytest.approx(0.1 / np.sqrt(norm2_a[0]), rel=1e-9)
    assert errors['H'] == 0.0
    assert errors['total'] == pytest.approx(0.1 / np.sqrt(sum(norm2_a)), rel=1e-9)


def test_comparison(reference):
    shift = 0.01 * reference.nt_sR
    comparison = compare(reference.new(nt_sR=reference.nt_sR + shift), reference)
    assert comparison.nmae == pytest.approx(1.0, rel=1e-9)
    assert comparison.electron_error == pytest.approx(0.01 * reference.integral(), rel=1e-9)
    first_moment_v = np.einsum('ijk, ijkv -> v', shift[0], reference.grid.points()) * reference.grid.dv
    assert comparison.dipole_error == pytest.approx(np.linalg.norm(first_moment_v), rel=1e-6)


def test_states_that_cannot_be_compared(reference, magnetic_calc):
    other = reference.grid.new(size_c=reference.grid.size_c + 4)
    with pytest.raises(ValueError, match='same grid only; these differ in size_c'):
        nmae(reference.new(grid=other, nt_sR=np.ones((1, *other.shape))), reference)
    with pytest.raises(ValueError, match='of different atoms: N and OH2'):
        density_matrix_error([PAWDensity.from_gpaw(magnetic_calc)], [reference])
    with pytest.raises(ValueError, match='no mean density matrix for O'):
        density_matrix_error([reference], [reference], {1: reference.D_asii[1]})


def test_error_of_the_magnetisation(magnetic_calc):
    reference = PAWDensity.from_gpaw(magnetic_calc)
    flipped = reference.new(nt_sR=reference.nt_sR[::-1], D_asii=[D_sii[::-1] for D_sii in reference.D_asii])
    assert compare(reference, reference).magnetisation_nmae == 0
    assert compare(flipped, reference).magnetisation_nmae == pytest.approx(200)
    paired = reference.with_spins(1)
    assert magnetisation_nmae(paired, reference) == pytest.approx(100)
    assert magnetisation_nmae(reference, paired) is None and compare(paired, paired).magnetisation_nmae is None
    small = paired.new(
        nt_sR=paired.nt_sR * np.array([0.5 + 1e-7, 0.5 - 1e-7])[:, None, None, None], D_asii=flipped.D_asii
    )
    assert magnetisation_nmae(reference, small) is None, 'noise is no magnetisation'
    with pytest.raises(ValueError, match='2 and 1 spin components'):
        nmae(reference, paired)


def test_matrices_of_states_with_and_without_spin(magnetic_calc):
    """The magnetisation counts as an error of its own, and spin-paired halves as their sum."""
    reference = PAWDensity.from_gpaw(magnetic_calc)
    paired = reference.with_spins(1)
    up_ii, down_ii = reference.D_asii[0]
    means = element_means([paired])
    assert element_spreads([reference], means)[7] == pytest.approx(np.sum((up_ii - down_ii) ** 2))
    assert element_spreads([paired.with_spins(2)], element_means([paired.with_spins(2)]))[7] == 0
    assert compare(paired, reference, means).epsilon_D['N'] == pytest.approx(1)
    assert compare(reference, reference, means).epsilon_D['N'] == 0
    np.testing.assert_allclose(
        element_means([paired, reference])[7], (0.5 * reference.D_asii[0] + 0.25 * (up_ii + down_ii))
    )
