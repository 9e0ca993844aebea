import numpy as np
import pytest

from ase_deepdensity.codes.gpaw.state import ugarray
from ase_deepdensity.state import PAWDensity
from tests.tolerances import EXACT, GPAW


def test_state_is_gpaws(calc, state):
    density = calc.dft.density
    assert state.nspins == density.ncomponents
    assert state.nt_sR.shape == density.nt_sR.data.shape == (state.nspins, *state.grid.shape)
    assert state.integral() == pytest.approx(float(density.nt_sR.integrate().sum()), rel=GPAW)
    for D_sii, (_, gpaw_sii) in zip(state.D_asii, density.D_asii.items(), strict=True):
        np.testing.assert_allclose(D_sii, gpaw_sii, rtol=0, atol=1e-12)  # antisymmetric rounding is left out
        assert np.array_equal(D_sii, D_sii.swapaxes(1, 2))


def test_electrons(calc, state):
    assert state.number_of_electrons() == pytest.approx(calc.get_number_of_electrons(), rel=GPAW)
    assert state.number_of_electrons() == pytest.approx(calc.get_pseudo_density().sum() * state.grid.dv, rel=GPAW)


def test_normalisation_is_gpaws(calc, state):
    wrong = state.new(nt_sR=1.1 * state.nt_sR, D_asii=[1.01 * D_sii for D_sii in state.D_asii])
    assert abs(wrong.number_of_electrons() - calc.get_number_of_electrons()) > 0.01
    normalized = wrong.normalized()
    assert normalized.number_of_electrons() == pytest.approx(calc.get_number_of_electrons(), rel=EXACT)
    assert normalized.D_asii[0] == pytest.approx(wrong.D_asii[0], rel=EXACT)

    from ase_deepdensity.codes.gpaw.potential import component_builder, gpaw_density

    density = gpaw_density(wrong, component_builder(wrong))
    density.normalize(0.0)
    assert ugarray(normalized).data == pytest.approx(density.nt_sR.data, rel=GPAW)


def test_a_charged_system_has_fewer_electrons(molecule_state):
    assert molecule_state.new(charge=1.0).normalized().number_of_electrons() == pytest.approx(7.0, rel=EXACT)


def test_gpw_file(calc, state, tmp_path):
    calc.write(tmp_path / 'a.gpw')
    copy = PAWDensity.from_gpw(tmp_path / 'a.gpw')
    assert copy.grid == state.grid
    assert copy.nt_sR == pytest.approx(state.nt_sR, rel=EXACT)
    assert copy.level == state.level
    for D_sii, copy_sii in zip(state.D_asii, copy.D_asii, strict=True):
        assert copy_sii == pytest.approx(D_sii, abs=EXACT)


def test_what_is_no_gpw_file_is_named(tmp_path):
    (tmp_path / 'text.gpw').write_text('no calculation')
    with pytest.raises(ValueError, match=r'text\.gpw: GPAW cannot read this file: '):
        PAWDensity.from_gpw(tmp_path / 'text.gpw')
    with pytest.raises(FileNotFoundError, match=r'none\.gpw: no such file'):
        PAWDensity.from_gpw(tmp_path / 'none.gpw')


def test_state_owns_its_atoms(molecule_calc, molecule_state):
    assert molecule_state.atoms.calc is None
    assert molecule_state.atoms is not molecule_calc.atoms


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (lambda s: {'nt_sR': s.nt_sR[0]}, 'nt_sR must have the shape'),
        (lambda s: {'nt_sR': s.nt_sR[:, 1:]}, 'nt_sR must have the shape'),
        (lambda s: {'nt_sR': np.full_like(s.nt_sR, np.nan)}, 'not finite'),
        (lambda s: {'D_asii': s.D_asii[1:]}, 'as many density matrices'),
        (lambda s: {'D_asii': [D_sii[0] for D_sii in s.D_asii]}, r'atom 0 \(O\) must have the shape'),
        (lambda s: {'D_asii': [D_sii + np.triu(D_sii, 1) for D_sii in s.D_asii]}, 'not symmetric: .* differ by up to'),
        (lambda s: {'D_asii': [np.inf * D_sii for D_sii in s.D_asii]}, r'atom 0 \(O\) is not finite'),
        (lambda s: {'grid': s.grid.new(cell_cv=2 * s.grid.cell_cv)}, 'is not the cell of the atoms'),
    ],
)
@pytest.mark.filterwarnings('ignore:invalid value')
def test_bad_states(molecule_state, changes, message):
    with pytest.raises(ValueError, match=message):
        molecule_state.new(**changes(molecule_state))


def test_a_block_has_no_electrons_of_its_own(molecule_state):
    slab = next(molecule_state.grid.slabs(1000))
    block = molecule_state.new(grid=slab, nt_sR=molecule_state.nt_sR[:, : slab.shape[0]])
    assert 0 < block.integral() < molecule_state.integral()
    with pytest.raises(ValueError, match='needs the density on the whole grid'):
        block.number_of_electrons()


def test_calculators_that_cannot_be_read():
    from gpaw.new import ase_interface

    with pytest.raises(ValueError, match='no density yet'):
        PAWDensity.from_gpaw(ase_interface.GPAW(mode='lcao', txt=None))
    with pytest.raises(ValueError, match='new interface'):
        PAWDensity.from_gpaw(object())
