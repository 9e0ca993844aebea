"""Which model speaks where none is named."""

import shutil
from contextlib import nullcontext
from math import inf

import pytest
from ase import Atoms
from ase.build import bulk, molecule

from ase_deepdensity import DeepDensity
from ase_deepdensity.checks import MAX_UNFAMILIAR, PredictionError, UnfamiliarWarning
from ase_deepdensity.choice import choose
from ase_deepdensity.cli.main import main
from ase_deepdensity.level import Level
from ase_deepdensity.model import SHIPPED, DensityModel, shipped_models
from ase_deepdensity.scf.seed import ChosenSeed
from tests.tiny import build_model, water_box


def in_vacuum(name: str) -> Atoms:
    atoms = molecule(name)
    atoms.center(vacuum=2.5)
    return atoms


@pytest.fixture
def special(tmp_path, monkeypatch):
    """A folder of models as if only those for few elements were shipped."""
    folder = tmp_path / 'models'
    folder.mkdir()
    for name in 'aluminium-pbe-pw400', 'organics-pbe-pw400', 'water-pbe-dzp', 'water-pbe-pw400':
        shutil.copy(SHIPPED / f'{name}.safetensors', folder)
    monkeypatch.setattr('ase_deepdensity.model_files.SHIPPED', folder)
    return folder


@pytest.fixture
def with_general(special):
    """One more, which is that of organic molecules by a name that comes before it."""
    general = DensityModel.load('organics-pbe-pw400')
    general.card['name'] = 'general'
    general.save(special / 'general.safetensors')


@pytest.mark.parametrize(
    ('atoms', 'level', 'name'),
    [
        (in_vacuum('H2O'), None, 'water-pbe-pw400'),
        (in_vacuum('H2O'), 'dzp', 'water-pbe-dzp'),
        (water_box(spacing=3.1, seed=1), 'dzp', 'water-pbe-dzp'),
        (in_vacuum('CH4'), 'dzp', 'general'),
        (bulk('Al', cubic=True), None, 'aluminium-pbe-pw400'),
    ],
)
def test_shipped_models(atoms, level, name, with_general):
    choice = choose(atoms, None if level is None else Level.load(level))
    assert choice.model.name == name and str(choice).startswith(name)
    with pytest.warns(UnfamiliarWarning) if choice.distance > MAX_UNFAMILIAR else nullcontext():
        assert choice.distance == DeepDensity(name).predictor.coefficients(atoms).unfamiliar_a.max()


@pytest.mark.parametrize(
    ('far', 'level', 'name'),
    [
        ((2.3, 2.3, 0.5, 0.4), 'pw400', 'water-pbe-pw400'),
        ((2.3, 2.3, 0.5, 0.4), 'dzp', 'water-pbe-dzp'),
        ((2.5, 2.3, 0.5, 0.4), 'dzp', 'water-pbe-pw400'),
        ((2.5, 2.5, 0.5, 0.4), 'dzp', 'general'),
        ((2.5, 2.5, 3.0, MAX_UNFAMILIAR), 'dzp', 'general'),
        ((9.0, 8.9, 7.0, inf), 'dzp', 'water-pbe-dzp'),
        ((9.0, 8.9, 3.0, inf), 'dzp', 'organics-pbe-pw400'),
        ((inf, inf, inf, inf), 'dzp', 'water-pbe-dzp'),
    ],
)
def test_order(far, level, name, with_general, monkeypatch):
    """The more special model if it is familiar, then the level; a file in the folder is all that a model needs."""
    names = 'water-pbe-dzp', 'water-pbe-pw400', 'organics-pbe-pw400', 'general'
    monkeypatch.setattr(
        'ase_deepdensity.choice._distance', lambda model, _: dict(zip(names, far, strict=True))[model.name]
    )
    choice = choose(in_vacuum('H2O'), Level.load(level))
    assert choice.model.name == name and sorted(choice.candidates) == sorted(names)
    assert ('(not familiar' in str(choice)) == (choice.distance > MAX_UNFAMILIAR)


@pytest.fixture
def magnetic(special):
    """One more, for magnetic atoms, which stands before the others by its name."""
    model = build_model(Level.load('pw400'), network='universal', magnetic=True)
    model.card['name'] = 'a-magnetic'
    model.save(special / 'a-magnetic.safetensors')


def test_models_told_moments_are_for_magnetic_atoms(special, magnetic):
    water, radical = in_vacuum('H2O'), in_vacuum('OH')
    assert radical.get_initial_magnetic_moments().any()
    assert 'a-magnetic' not in choose(water).candidates
    assert choose(radical).model.name == choose([water, radical]).model.name == 'a-magnetic'
    for path in special.glob('*.safetensors'):
        if path.name != 'a-magnetic.safetensors':
            path.unlink()
    assert choose(water).model.name == 'a-magnetic', 'no other knows its elements'


@pytest.mark.parametrize(('far', 'paired_far', 'both_spins'), [(2.3, 0.3, True), (2.5, 2.4, False), (2.6, 2.5, True)])
def test_a_seed_of_the_total_where_the_magnetic_model_does_not_know_the_atoms(
    far, paired_far, both_spins, magnetic, monkeypatch
):
    def distance(model, frames):
        if frames[0].get_initial_magnetic_moments().any() and not model.network.sees_magnetic_moments:
            raise PredictionError('it is not told moments')
        return far if model.network.sees_magnetic_moments else paired_far

    monkeypatch.setattr('ase_deepdensity.choice._distance', distance)
    seed = ChosenSeed(None)
    seed.check(in_vacuum('OH'))
    assert seed.sees_magnetic_moments == both_spins


def test_elements_that_no_model_knows(special, tmp_path, capsys):
    with pytest.raises(PredictionError, match=r'no shipped model knows Na, Cl together \(aluminium-pbe-pw400 lacks .*'):
        choose(in_vacuum('NaCl')[::-1])
    with pytest.raises(PredictionError, match='knows H, C, Al together .*organics-pbe-pw400 lacks Al; water-pbe-dzp'):
        DeepDensity().predict(in_vacuum('CH4') + Atoms('Al', [[1, 1, 1]]))
    Atoms('Xe', cell=[4, 4, 4], pbc=True).write(tmp_path / 'xe.xyz')
    assert main(['predict', str(tmp_path / 'xe.xyz'), '--out', str(tmp_path / 'n.cube')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'no shipped model knows Xe (' in error


def test_the_magnetic_model_speaks_for_magnetic_atoms():
    iron, oxide = bulk('Fe'), bulk('NiO', 'rocksalt', a=4.19) * (2, 1, 1)
    iron.set_initial_magnetic_moments([2.3])
    oxide.set_initial_magnetic_moments([2.0, 0.0, -2.0, 0.0])
    for atoms in iron, oxide:
        assert choose(atoms).model.name == 'magnetic-pbe-pw400'
        paired = atoms.copy()
        paired.set_initial_magnetic_moments(None)
        assert choose(paired).model.name == 'general-pbe-pw400'
        assert choose(atoms).distance < MAX_UNFAMILIAR
        atoms.calc = DeepDensity()
    assert iron.get_magnetic_moment() == pytest.approx(2.14, abs=0.1), 'converged'
    up, _, down, _ = oxide.get_magnetic_moments()
    assert up == pytest.approx(-down, abs=1e-3) and up == pytest.approx(1.4, abs=0.2)
    assert ChosenSeed(None).has_derivative


def test_a_charge_is_the_reason_where_no_model_can_be_told_of_it():
    water = in_vacuum('H2O')
    water.info['charge'] = 1
    with pytest.raises(PredictionError, match='total charge'):
        choose(water)


def test_calculator_chooses_again_when_the_elements_change(special, capsys):
    atoms, calc = in_vacuum('H2O'), DeepDensity()
    with pytest.raises(PredictionError, match='no atoms yet'):
        _ = calc.model
    atoms.calc = calc
    assert 'the one that knows the atoms best' in repr(calc)
    assert atoms.get_dipole_moment() == pytest.approx(DeepDensity('water-pbe-pw400').get_dipole_moment(atoms))
    atoms.rattle(0.01)
    calc.get_pseudo_density()
    assert capsys.readouterr().out.count('water-pbe-pw400') == 1, 'said once'
    atoms.symbols[0] = 'C'
    with pytest.warns(UnfamiliarWarning, match='organics'):
        calc.predict()
    assert repr(calc).startswith("DeepDensity('organics-pbe-pw400')")
    assert calc.model.name == 'organics-pbe-pw400' and 'organics-pbe-pw400' in capsys.readouterr().out
    calc.set(model='water-pbe-dzp')
    assert calc.model.name == 'water-pbe-dzp'
    calc.set(model=None)
    assert calc.model.name == 'organics-pbe-pw400'


def test_lists_have_a_model_for_each_kind_of_atoms(special):
    frames = [in_vacuum('CH4'), in_vacuum('H2O'), bulk('Al', cubic=True), in_vacuum('C2H2')]
    densities = DeepDensity(h=0.25).predict(frames)
    assert [density.atoms for density in densities] == frames
    assert [density.level.name for density in densities] == ['pw400', 'pw400', 'aluminium', 'pw400']
    same = DeepDensity(h=0.25).predict(frames[::3])
    assert same[1].nt_sR == pytest.approx(densities[3].nt_sR, rel=1e-5, abs=1e-6)
    with pytest.raises(PredictionError, match=r'frame 1 \(Xe\): no shipped model'):
        DeepDensity().predict([frames[0], Atoms('Xe', cell=[4, 4, 4])])


def test_the_general_model_speaks_where_no_special_one_knows_the_atoms():
    for atoms in bulk('NaCl', 'rocksalt', a=5.64), bulk('Si'), bulk('C'):
        assert choose(atoms).model.name == 'general-pbe-pw400'
    assert choose(in_vacuum('CH3CH2OH')).model.name == 'organics-pbe-pw400'
    with pytest.raises(PredictionError, match='no shipped model knows Ce'):
        choose(bulk('Ce', 'fcc', a=5.16))


def test_command_line_says_which(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i, atoms in enumerate([in_vacuum('CH4'), in_vacuum('H2O')]):
        atoms.write('frames.xyz', append=i > 0)
    assert main(['predict', 'frames.xyz', '--h', '0.3', '--out', 'n.cube']) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('model')]
    assert [line.split()[1].strip(',') for line in lines] == ['organics-pbe-pw400', 'water-pbe-pw400']
    assert sorted(path.name for path in tmp_path.glob('*.cube')) == ['n-00000.cube', 'n-00001.cube']
    assert main(['predict', 'frames.xyz@1', '--h', '0.3', '--out', 'm.cube', 'water-pbe-dzp']) == 0
    assert 'model      water-pbe-dzp, level dzp' in capsys.readouterr().out


def test_shipped_models_can_be_chosen_for_one_pass():
    models = [DensityModel.load(name) for name in shipped_models()]
    assert all(model.network.expands for model in models), 'a derivative, which one pass needs'
    assert [model.name for model in models] == shipped_models()
