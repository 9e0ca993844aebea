import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.db import connect
from ase.io import read, write
from ase.md.verlet import VelocityVerlet

import ase_deepdensity
from ase_deepdensity import DeepDensity, PAWDensity
from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.level import LevelError
from ase_deepdensity.model import ModelError
from ase_deepdensity.predict import PredictionError, Predictor
from tests.tiny import build_model, water_box
from tests.tolerances import EXACT

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture
def calc(tiny_model):
    return DeepDensity(tiny_model)


@pytest.fixture
def runs():
    """Counts predictions."""
    with patch.object(Predictor, 'predict', autospec=True, side_effect=Predictor.predict) as counter:
        yield counter


def test_predict_gives_the_state(calc, water):
    density = calc.predict(water)
    assert isinstance(density, PAWDensity)
    assert density.nt_sR.shape == (1, 32, 32, 32), 'the grid of GPAW at h=0.2 Å'
    assert [D_sii.shape for D_sii in density.D_asii] == [(1, 13, 13), (1, 5, 5), (1, 5, 5)] * 8
    assert density.number_of_electrons() == pytest.approx(64, rel=EXACT)
    assert density.atoms == water and water.calc is None


def test_density_methods_have_gpaws_meaning(calc, water):
    water.calc = calc
    dv = water.get_volume() / 32**3
    assert calc.get_pseudo_density().sum() * dv == pytest.approx(64, rel=1e-6)
    assert calc.get_pseudo_density(spin=0) == pytest.approx(calc.get_pseudo_density())
    assert calc.get_pseudo_density(gridrefinement=2, broadcast=False).shape == (64, 64, 64)
    assert calc.get_all_electron_density().sum() * dv == pytest.approx(80, rel=1e-6)
    assert calc.get_all_electron_density(skip_core=True, gridrefinement=2).shape == (64, 64, 64)
    assert calc.get_number_of_grid_points().tolist() == [32, 32, 32]
    assert calc.get_number_of_spins() == 1 and not calc.get_spin_polarized()
    with pytest.raises(ValueError, match='spin must be None or 0 to 0, not 1'):
        calc.get_pseudo_density(spin=1)


def test_moments_and_spin_densities_belong_together(tiny_model):
    """Spheres hold a part of the moment, the spin density all of it."""
    model = build_model(tiny_model.level, network='universal', magnetic=True)
    atoms = molecule('H2O')
    atoms.center(vacuum=2.0)
    atoms.set_initial_magnetic_moments([2.0, 0.5, 0.5])
    atoms.calc = DeepDensity(model, h=0.3, extrapolate=True)
    with pytest.warns(UnfamiliarWarning):
        moment = atoms.get_magnetic_moment()
    m_R, density = atoms.calc.get_spin_density(), atoms.calc.predict()
    assert density.nspins == 2 and abs(moment) > 1e-5
    assert m_R.sum() * atoms.get_volume() / m_R.size == pytest.approx(moment, rel=1e-5)
    assert atoms.get_magnetic_moments() == pytest.approx(density.magnetic_moments(), rel=EXACT)
    assert abs(atoms.get_magnetic_moments()).max() > 1e-5, 'small, but no rounding'
    assert {'magmom', 'magmoms'} <= atoms.calc.results.keys()

    atoms.set_initial_magnetic_moments(None)
    assert atoms.get_magnetic_moment() == 0.0 and atoms.get_magnetic_moments().tolist() == [0, 0, 0]
    assert not atoms.calc.get_spin_density().any()


def test_dipole(calc, water):
    water.calc = calc
    dipole = water.get_dipole_moment()
    assert dipole == pytest.approx(dipole_moment(calc.predict()), rel=EXACT)
    assert calc.get_dipole_moment(water) == pytest.approx(dipole, rel=EXACT)
    assert calc.results.keys() == {'dipole'}, 'grids stay out of the results'
    with pytest.raises(PropertyNotImplementedError):
        water.get_potential_energy()


def test_works_anew_only_after_a_change(calc, water, runs):
    water.calc = calc
    for _ in range(2):
        calc.predict(water), calc.get_pseudo_density(), water.get_dipole_moment()
    assert runs.call_count == 1
    water.info['note'] = 'nothing changes'
    calc.predict(water.copy())
    water.calc = calc
    assert runs.call_count == 1
    for number, change in enumerate(
        (
            lambda: water.rattle(0.01),
            lambda: water.set_cell(1.01 * water.cell, scale_atoms=True),
            lambda: water.set_pbc((True, True, False)),
            lambda: water.center(),
            lambda: water.__delitem__([0, 1, 2]),
        ),
        start=2,
    ):
        change()
        dipole = water.get_dipole_moment()
        assert runs.call_count == number
        assert dipole == pytest.approx(dipole_moment(calc.predict()), rel=EXACT)
        assert runs.call_count == number


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda atoms: atoms.set_initial_magnetic_moments([1] * len(atoms)), 'spin-paired'),
        (lambda atoms: atoms.set_initial_charges([1] * len(atoms)), 'total charge'),
        (lambda atoms: atoms.info.update(charge=-1), 'total charge'),
    ],
)
def test_what_is_refused_is_refused_after_a_prediction_too(calc, water, change, message):
    water.calc = calc
    water.get_dipole_moment()
    change(water)
    for use in calc.get_pseudo_density, water.get_dipole_moment, calc.predict:
        with pytest.raises(PredictionError, match=message):
            use()


def test_several_threads(calc):
    """Each speaks of its own atoms, however they take turns."""
    boxes = [water_box((1, 1, 2), spacing=3 + 0.1 * i, seed=i) for i in range(4)]
    expected = [DeepDensity(calc.model).predict(atoms) for atoms in boxes]
    wrong = []

    def work(i: int) -> None:
        for _ in range(6):
            given = calc.predict(boxes[i])
            same = calc.get_pseudo_density().shape == tuple(expected[i].grid.size_c)
            dipole = calc.get_dipole_moment(boxes[i])
            own = np.array_equal(given.nt_sR, expected[i].nt_sR)
            if not (same and own and dipole == pytest.approx(dipole_moment(expected[i]), abs=1e-9)):
                wrong.append(i)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(boxes)) as pool:
            list(pool.map(work, range(len(boxes))))
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def test_extrapolation(water):
    calc = DeepDensity('water-pbe-dzp')
    lone = Atoms('H', cell=[5] * 3, pbc=True)
    with pytest.raises(PredictionError, match='means nothing'):
        calc.predict(lone)
    assert calc.predict(lone, extrapolate=True).number_of_electrons() == pytest.approx(1, rel=EXACT)
    with pytest.raises(PredictionError, match='means nothing'):
        calc.predict(lone)
    bold = DeepDensity('water-pbe-dzp', extrapolate=True)
    assert bold.predict(lone).number_of_electrons() == pytest.approx(1, rel=EXACT)
    assert bold.todict()['extrapolate'] is True


def test_density_methods_follow_the_atoms(calc, water):
    water.calc = calc
    before = calc.get_pseudo_density()
    water.rattle(0.05, seed=1)
    after = calc.get_pseudo_density()
    assert np.abs(after - before).max() > 0.01, 'never the density of atoms that have moved on'
    assert after == pytest.approx(pseudo_density(DeepDensity(calc.model).predict(water)), rel=1e-6)


def test_a_changed_density_does_not_spoil_the_cache(calc, water):
    density = calc.predict(water)
    density.nt_sR[:] = 0.0
    density.D_asii[0][:] = 0.0
    assert calc.predict(water).number_of_electrons() == pytest.approx(64, rel=EXACT)


def test_grids(calc, water):
    assert DeepDensity(calc.model, gpts=(36, 36, 40)).predict(water).nt_sR.shape == (1, 36, 36, 40)
    assert DeepDensity(calc.model, gpts=np.array([36, 36, 40])).predict(water).grid.size_c.tolist() == [36, 36, 40]
    fine = DeepDensity(calc.model, h=0.15)
    assert fine.predict(water).grid.spacing_c.max() < 0.17
    assert fine.get_number_of_grid_points().tolist() == fine.predict().grid.size_c.tolist()
    fine.set(h=None, gpts=(32, 32, 32))
    assert fine.predict().grid.size_c.tolist() == [32, 32, 32], 'a new grid makes a new density'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'gpts': (32, 32, 32), 'h': 0.2}, 'gpts or h, not both'),
        ({'gpts': 32}, 'gpts must be three positive integers, not 32'),
        ({'gpts': (32, 32)}, 'gpts must be three positive integers'),
        ({'gpts': (32, 32, 0)}, 'gpts must be three positive integers'),
        ({'gpts': (32.5, 32, 32)}, 'gpts must be three positive integers'),
        ({'h': 'fine'}, "h must be a positive number of Å, not 'fine'"),
        ({'h': -0.2}, 'h must be a positive number'),
        ({'h': float('nan')}, 'h must be a positive number'),
    ],
)
def test_bad_grids(tiny_model, arguments, message):
    with pytest.raises(CalculatorSetupError, match=message):
        DeepDensity(tiny_model, **arguments)


def test_other_errors(calc, water):
    with pytest.raises(PredictionError, match='has no atoms yet: use atoms.calc = calc'):
        calc.predict()
    with pytest.raises(PredictionError, match='has no atoms yet'):
        calc.get_pseudo_density()
    with pytest.raises(PredictionError, match='too coarse'):
        DeepDensity(calc.model, h=0.6).predict(water)
    with pytest.raises(ModelError, match="no model 'wine'"):
        DeepDensity('wine')
    with pytest.raises(CalculatorSetupError, match='has no xc; it has model, gpts, h, kpts, device and extrapolate'):
        calc.set(xc='PBE')


def test_an_error_leaves_no_old_density(calc, water):
    water.calc = calc
    calc.get_pseudo_density()
    water.positions[0] = np.nan
    for _ in range(2):
        with pytest.raises(PredictionError, match='positions of atoms .0. are not finite'):
            calc.get_pseudo_density()


def test_observer_of_dynamics_with_another_calculator(calc, water):
    water.calc = EMT()
    electrons, steps = [], []

    def observe():
        density = calc.predict(water)
        electrons.append(density.number_of_electrons())
        steps.append(density.nt_sR)

    with VelocityVerlet(water, timestep=0.2) as dynamics:
        dynamics.attach(observe, interval=1)
        dynamics.run(2)
    assert electrons == pytest.approx([64] * 3, rel=EXACT)
    assert np.abs(steps[2] - steps[0]).max() > 1e-6
    assert isinstance(water.calc, EMT)


@pytest.mark.parametrize('duplicate', [copy.copy, copy.deepcopy, lambda calc: pickle.loads(pickle.dumps(calc))])
@pytest.mark.parametrize('used', [False, True])
def test_copies_work_on_their_own(calc, water, duplicate, used):
    if used:
        water.calc = calc
        water.get_dipole_moment()
    twin = duplicate(calc)
    expected = calc.predict(water).nt_sR
    assert twin.predict(water).nt_sR == pytest.approx(expected, rel=EXACT)
    twin.set(gpts=(36, 36, 36))
    assert twin.predict(water).nt_sR.shape == (1, 36, 36, 36)
    assert calc.predict(water).nt_sR.shape == (1, 32, 32, 32) and calc.parameters['gpts'] is None


def test_copied_atoms(calc, water):
    water.calc = calc
    dipole = water.get_dipole_moment()
    twin = water.copy()
    assert twin.calc is None
    twin.calc = calc
    twin.rattle(0.05, seed=2)
    assert np.abs(twin.get_dipole_moment() - dipole).max() > 1e-4
    assert water.get_dipole_moment() == pytest.approx(dipole, rel=1e-6)
    deep = copy.deepcopy(water)
    assert deep.calc is not calc
    assert deep.get_dipole_moment() == pytest.approx(dipole, rel=1e-6)


def test_ase_writes_and_reads_the_results(calc, water, tmp_path):
    water.calc = calc
    dipole = water.get_dipole_moment()
    for name in 'a.traj', 'a.xyz', 'a.json':
        write(tmp_path / name, water)
        assert read(tmp_path / name).get_dipole_moment() == pytest.approx(dipole, abs=1e-6), name


def test_parameters_are_plain_words(tiny_file, water, tmp_path):
    """A device too: ASE's data bases hold JSON."""
    water.calc = DeepDensity(str(tiny_file), device=torch.device('cpu'))
    water.get_dipole_moment()
    with connect(tmp_path / 'a.db') as database:
        database.write(water)
    assert connect(tmp_path / 'a.db').get(1).calculator_parameters == {'model': str(tiny_file), 'device': 'cpu'}


@pytest.mark.parametrize('refinement', [0, -1, 1.5, True, '2'])
def test_bad_refinements(calc, water, refinement):
    calc.predict(water)
    for method in calc.get_pseudo_density, calc.get_all_electron_density:
        with pytest.raises(ValueError, match=f'gridrefinement must be a whole number from 1 on, not {refinement!r}'):
            method(gridrefinement=refinement)
        with pytest.raises(ValueError, match='would take .* GiB'):
            method(gridrefinement=10**5)


def test_a_model_file(tiny_file, water):
    calc = DeepDensity(str(tiny_file), h=0.25)
    assert calc.predict(water).number_of_electrons() == pytest.approx(64, rel=EXACT)
    assert calc.todict() == {'model': str(tiny_file), 'h': 0.25}
    assert calc.name == 'deepdensity'


def test_names_of_the_package():
    for name in ase_deepdensity.__all__:
        assert getattr(ase_deepdensity, name) is not None
        assert name in dir(ase_deepdensity)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        ase_deepdensity.Nothing  # noqa: B018


def test_kpoints(tiny_metal, tiny_model, water):
    calc = DeepDensity(tiny_metal)
    at_gamma = calc.predict(water)
    calc.set(kpts=(3, 1, 1))
    at_three = calc.predict(water)
    assert at_three.level.parameters['kpts'] == [3, 1, 1]
    assert abs(at_three.nt_sR - at_gamma.nt_sR).max() > 1e-4
    with pytest.raises(ModelError, match='tiny is not told about k-points'):
        DeepDensity(tiny_model, kpts=(3, 1, 1))
    with pytest.raises(LevelError, match='GPAW refuses'):
        DeepDensity(tiny_metal, kpts={'sizes': 3})
    with pytest.raises(LevelError, match=r'GPAW refuses the k-points \[0, 1, 1\] .* give three numbers'):
        DeepDensity(tiny_metal, kpts=(0, 1, 1)).predict(water)
    assert calc.parameters['kpts'] == (3, 1, 1)


def test_lists_of_atoms(tiny_model, water):
    """In their order; the calculator goes on to speak of its own atoms."""
    calc = DeepDensity(tiny_model, h=0.3, extrapolate=True)
    water.calc = calc
    own = calc.predict()
    others = [water_box(seed=5), water_box((1, 2, 1), seed=6)]
    densities = calc.predict(others)
    assert [density.atoms for density in densities] == others
    for density, atoms in zip(densities, others, strict=True):
        alone = DeepDensity(tiny_model, h=0.3, extrapolate=True).predict(atoms)
        np.testing.assert_allclose(density.nt_sR, alone.nt_sR, rtol=0, atol=1e-5 * alone.nt_sR.max())
    np.testing.assert_array_equal(calc.predict().nt_sR, own.nt_sR)
    with pytest.raises(PredictionError, match=r'frame 1 \(He\): the model tiny does not know He'):
        calc.predict([water, Atoms('He', cell=[4] * 3)])
